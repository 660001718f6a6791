"""`python -m tests.kinds.postgres.one_load baskets`: one load in a process of its own, without Prefect."""

import asyncio
import sys

from flows.access import addresses
from flows.kinds.registry import kind_of
from flows.sources.shop import shop
from flows.verbs.load import load_table


def main() -> None:
    """Load the table that the first argument names."""
    asyncio.run(load_table(addresses.warehouse(), kind_of(shop).address(shop), shop, shop.table(sys.argv[1])))


if __name__ == "__main__":
    main()
