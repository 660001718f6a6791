"""`python -m tests.kinds.api.servers.one_load KINTO orders`: one load in a process that may be killed.

Addresses stand in ONE_LOAD, and the file that it writes its process id to, for who is to kill it.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from flows.values.connection import ApiConnection, DatabaseConnection
from flows.verbs.load import load_table
from tests.kinds.api.servers import declared


def main() -> None:
    """Load the endpoint that the arguments name."""
    api = getattr(declared, sys.argv[1])
    warehouse, url, key, user, pid = json.loads(os.environ["ONE_LOAD"])
    Path(pid).write_text(str(os.getpid()))
    connection = ApiConnection(api.connection, url, key or None, user or None)
    asyncio.run(load_table(DatabaseConnection("warehouse", warehouse), connection, api, api.table(sys.argv[2])))


if __name__ == "__main__":
    main()
