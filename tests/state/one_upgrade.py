"""An upgrade of schema ops in a process of its own, which a test may kill: `python -m tests.state.one_upgrade`."""

import asyncio

from flows.access import addresses
from flows.access.addresses import connect
from flows.state import ledger


async def _upgrade() -> None:
    async with connect(addresses.warehouse(), side="warehouse") as warehouse:
        await ledger.migrate(warehouse, wait_seconds=60)


if __name__ == "__main__":
    asyncio.run(_upgrade())
