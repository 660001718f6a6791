"""`python -m tests.kinds.api.one_load items`: one load of the test's API in a process of its own, which may die."""

import asyncio
import sys

from flows.access import addresses
from flows.kinds.api.plan import load_endpoint
from tests.kinds.api.loading import LISTS


def main() -> None:
    """Load the endpoint that the first argument names."""
    load = load_endpoint(addresses.warehouse(), addresses.api(LISTS), LISTS, LISTS.table(sys.argv[1]))
    asyncio.run(load)


if __name__ == "__main__":
    main()
