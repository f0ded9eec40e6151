"""The command line: parse, ask through nsrun.client, print. A command's module is imported when that command is run."""
