"""`python -m tests.kinds.postgres.one_load baskets`: one load in a process of its own, without Prefect."""

import asyncio
import sys

from flows.access import addresses
from flows.kinds.postgres.stage import load_table
from flows.sources.shop import shop


def main() -> None:
    """Load the table that the first argument names."""
    asyncio.run(load_table(addresses.warehouse(), addresses.database(shop), shop, shop.table(sys.argv[1])))


if __name__ == "__main__":
    main()
