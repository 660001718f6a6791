"""Advisory locks in the warehouse, by class. Any constants will do, as long as every process uses the same."""

#: A load of a table, by the hash of `source.table`; and by 0 the schema of operations: exclusive while it is upgraded,
#: shared for the moment in which a run takes a lock of its own.
LOAD_LOCK_CLASS = 20_170_101
#: A worker of such a load: shared by workers, exclusive for the next attempt that waits for their end. By 0 it is the
#: transform.
WORKER_LOCK_CLASS = 20_170_102
#: A run of ingest, reconcile or backfill, by its number, for as long as it lives: also between its tables.
RUN_LOCK_CLASS = 20_170_103
#: What stands in the place of a table's hash for the schema of operations, and for the transform.
NO_TABLE = 0
