"""What ends: a person's rows when the person asks, and every row when its term is over.

Takes connections that the caller opened, one for each role that owns tables.
"""
