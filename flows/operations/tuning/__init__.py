"""The tuner: what history says is slow, what would help, and whether it did."""
