"""The resolver of pods' names: `python -m nsrun.resolver`, one process per root directory. See `process.py`.

Nothing outside of this package imports it; the server starts it, watches it, and writes the file that it answers from.
"""
