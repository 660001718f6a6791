"""Advisory locks of code for schema `ops` before version 9: an upgrade still waits for their holders."""

#: A load of a table, by the hash of `source.table`; and by 0 the schema of operations: exclusive while it is upgraded,
#: shared for the moment in which a run takes a lock of its own.
LOAD_LOCK_CLASS = 20_170_101
#: A worker of such a load. By 0 it is the transform.
WORKER_LOCK_CLASS = 20_170_102
#: The value used instead of a table's hash for the schema of operations.
NO_TABLE = 0
