"""`python -m tests.verbs.one_recovery SOURCE.TABLE`: one recovery of the table, in a process that may die."""

import asyncio
import sys
import time

from flows.declare import Merge, Rule, Timestamp
from flows.kinds.postgres import Database, Table
from flows.values.settings import settings
from flows.verbs import find
from flows.verbs.recover import Agreed, Forget, Recovered, recover
from flows.verbs.recovery import Asked
from flows.verbs.recovery_preview import look

ITEMS = Table(
    "items",
    key="id",
    cursor=Timestamp("at"),
    load=Merge(),
    deletes=True,
    rules=(Rule("positive", "v >= 0"),),
    max_quarantined=1,
)
SHOP = Database("shop", connection="shop", tables=[ITEMS])


async def nobody(source: str, batches: list[int]) -> int:
    """No person was erased."""
    return 0


async def recovered(
    *names: str, asked: Asked | None = None, reason: str = "a test", forget: Forget = nobody
) -> list[Recovered]:
    """Look, agree at once, and do."""
    plans = await look(names, asked or Asked())
    return await recover(plans, asked or Asked(), Agreed("ada", reason, time.monotonic()), forget)


def main() -> None:
    settings.cache_clear()
    setattr(find, "SOURCES", (SHOP,))  # noqa: B010
    asyncio.run(recovered(sys.argv[1]))


if __name__ == "__main__":
    main()
