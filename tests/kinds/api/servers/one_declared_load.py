"""`python -m tests.kinds.api.servers.one_declared_load salesforce accounts`: one load in a process that may be killed.

What the declaration needs stands in ONE_DECLARED_LOAD, the addresses in the variables of the platform.
"""

import asyncio
import json
import os
import sys
from datetime import timedelta
from pathlib import Path

from flows.access import addresses
from flows.kinds.api import Job
from flows.kinds.api.http.limits import HttpLimits
from flows.kinds.api.kind import Apis
from flows.kinds.registry import KINDS, kind_of
from flows.verbs.load import load_table
from tests.kinds.api.servers import declared_tokens


def main() -> None:
    """Load the endpoint that the arguments name; the file gets this process's id, for whoever kills it."""
    arguments, pid_file = json.loads(os.environ["ONE_DECLARED_LOAD"])
    Path(pid_file).write_text(str(os.getpid()))
    KINDS["api"] = Apis(HttpLimits(backoff_seconds=0.005, backoff_cap_seconds=0.02, wait_budget_seconds=20))
    Job.pause = property(lambda _: timedelta(milliseconds=20))  # type: ignore[method-assign,assignment]
    api = getattr(declared_tokens, sys.argv[1])(*arguments)
    asyncio.run(load_table(addresses.warehouse(), kind_of(api).address(api), api, api.table(sys.argv[2])))


if __name__ == "__main__":
    main()
