"""`python -m tests.kinds.dlt.one_load`: loads in processes that may die. Imports once, then forks for every line of
standard input, a JSON object of environment variables; answers how the process ended."""

import asyncio
import json
import os
import sys

import tests.kinds.dlt.sources  # noqa: F401  # so that no fork has to import dlt
from flows.access import addresses
from flows.kinds.dlt import DltSource, Resource
from flows.values.settings import settings
from flows.verbs.load import load_table

ENTRIES = Resource("entries", cursor="changed_at")
SOURCE = DltSource("logbook", build="tests.kinds.dlt.sources:entries", resources=[ENTRIES])


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.environ.update(json.loads(line))
            settings.cache_clear()
            asyncio.run(load_table(addresses.warehouse(), None, SOURCE, ENTRIES))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
