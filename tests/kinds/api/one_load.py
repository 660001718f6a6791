"""`python -m tests.kinds.api.one_load items`: one load of the test's API in a process of its own, which may die."""

import asyncio
import sys

from flows.access import addresses
from flows.kinds.registry import kind_of
from flows.verbs.load import load_table
from tests.kinds.api.loading import LISTS


def main() -> None:
    """Load the endpoint that the first argument names."""
    load = load_table(addresses.warehouse(), kind_of(LISTS).address(LISTS), LISTS, LISTS.table(sys.argv[1]))
    asyncio.run(load)


if __name__ == "__main__":
    main()
