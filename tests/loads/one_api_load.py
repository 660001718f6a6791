"""`python -m tests.loads.one_api_load items`: one load of the test's API in a process of its own, which may die."""

import asyncio
import sys

from flows import connections
from flows.loads.api import load_endpoint
from tests.loads.api_loading import LISTS


def main() -> None:
    """Load the endpoint that the first argument names."""
    load = load_endpoint(connections.warehouse(), connections.api(LISTS), LISTS, LISTS.table(sys.argv[1]))
    asyncio.run(load)


if __name__ == "__main__":
    main()
