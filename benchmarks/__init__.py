"""Measurements against a limit and against peers, each in the same run on the same machine."""
