"""`python -m tests.loads.one_load baskets`: one load in a process of its own, without Prefect."""

import asyncio
import sys

from flows import connections
from flows.loads.database import load_table
from flows.sources.shop import shop


def main() -> None:
    """Load the table that the first argument names."""
    asyncio.run(load_table(connections.warehouse(), connections.database(shop), shop, shop.table(sys.argv[1])))


if __name__ == "__main__":
    main()
