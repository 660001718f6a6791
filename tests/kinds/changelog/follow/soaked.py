"""The source of the soak test."""

from flows.declare import Log, Merge
from flows.kinds.changelog import Database, Table

TABLES = [
    Table("items", key="id", load=Merge()),
    Table("others", key="id", load=Merge()),
    Table("parted", key=("id", "part"), load=Merge()),
]
SOURCE = Database("shop", connection="shop", capture=Log(), tables=TABLES)
