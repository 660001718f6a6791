"""The source of loads that are killed: see `tests.kinds.conformance.one_load`."""

from flows.declare import Log, Merge
from flows.kinds.changelog import Database, Table

SOURCE = Database("shop", connection="shop", capture=Log(), tables=[Table("items", key="id", load=Merge())])
