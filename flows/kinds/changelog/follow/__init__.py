"""Following: the log is read again and again, and each table's changes commit with its position.

follower      waits while an end is down, and begins again
connections   of both ends, opened and lost together
rounds        one read of the log, cut by cut, every half second
tables        which tables follow, and what makes them stop
loads         ordinary loads of the others
commits       the changes of a table in one transaction, and the stretch in the ledger that they belong to
comparing     both ends' keys at the end of a stretch, while following goes on
"""
