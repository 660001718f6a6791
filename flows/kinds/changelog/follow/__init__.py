"""Following: the log is read again and again, and each table's changes commit with its position.

follower    connections, rounds, waiting while an end is down
tables      which tables follow, and which need an ordinary load first
commits     the changes of a table in one transaction, and the stretch in the ledger that they belong to
comparing   both ends' keys at the end of a stretch, while following goes on
"""
