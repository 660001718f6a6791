"""Verbs of the command line that belong together, one file a group."""
