"""An upgrade of schema ops in a process of its own, which a test may kill: `python -m tests.state.one_upgrade`."""

import asyncio

from flows import connections
from flows.connections import connect
from flows.state import ledger


async def _upgrade() -> None:
    async with connect(connections.warehouse(), side="warehouse") as warehouse:
        await ledger.migrate(warehouse, wait_seconds=60)


if __name__ == "__main__":
    asyncio.run(_upgrade())
