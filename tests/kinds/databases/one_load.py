"""A process that may die: one load of `orders` from a MariaDB, by the addresses in its arguments."""

import asyncio
import sys

from flows.declare import Merge, Timestamp
from flows.kinds.postgres import Database, Table
from flows.values.connection import DatabaseConnection
from flows.verbs.load import load_table


def main() -> None:
    table = Table("orders", key="id", cursor=Timestamp("changed_at"), load=Merge(), deletes=True)
    source = Database("erp", connection="erp", engine="mysql", tables=[table])
    warehouse, origin = DatabaseConnection("warehouse", sys.argv[1]), DatabaseConnection("erp", sys.argv[2])
    asyncio.run(load_table(warehouse, origin, source, table))


if __name__ == "__main__":
    main()
