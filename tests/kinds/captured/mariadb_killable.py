"""The MariaDB source of loads that are killed: see `tests.kinds.conformance.one_load`."""

from flows.declare import Merge, Triggers
from flows.kinds.captured import Database, Table

SOURCE = Database(
    "erp", connection="erp", engine="mysql", capture=Triggers(), tables=[Table("items", key="id", load=Merge())]
)
