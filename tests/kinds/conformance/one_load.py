"""`python -m tests.kinds.conformance.one_load MODULE`: one load of the module's source, in a process that may die."""

import asyncio
import importlib
import sys

from flows.access import addresses
from flows.kinds.registry import kind_of
from flows.values.settings import settings
from flows.verbs.load import load_table
from tests.kinds.conformance.end import TABLE


def main() -> None:
    settings.cache_clear()
    source = importlib.import_module(sys.argv[1]).SOURCE
    kind = kind_of(source)
    asyncio.run(load_table(addresses.warehouse(), kind.address(source), source, source.table(TABLE)))


if __name__ == "__main__":
    main()
