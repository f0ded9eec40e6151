"""The server's parts that need no machine."""
