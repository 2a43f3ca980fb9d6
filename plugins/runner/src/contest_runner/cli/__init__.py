"""The commands that the runner adds to the program `contest`."""
