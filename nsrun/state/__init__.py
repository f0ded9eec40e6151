"""The state directory: where things lie, how they are written so that any moment may be the last, and who owns it."""
