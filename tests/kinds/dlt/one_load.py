"""`python -m tests.kinds.dlt.one_load`: one load of a dlt resource in a process that may die."""

import asyncio

import tests.kinds.dlt.sources  # noqa: F401  # so that no fork has to import dlt
from flows.access import addresses
from flows.kinds.dlt import DltSource, Resource
from flows.verbs.load import load_table

ENTRIES = Resource("entries", cursor="changed_at")
SOURCE = DltSource("logbook", build="tests.kinds.dlt.sources:entries", resources=[ENTRIES])


def main() -> None:
    """Load the entries."""
    asyncio.run(load_table(addresses.warehouse(), None, SOURCE, ENTRIES))


if __name__ == "__main__":
    main()
