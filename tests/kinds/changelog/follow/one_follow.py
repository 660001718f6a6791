"""`python -m tests.kinds.changelog.follow.one_follow MODULE [stays]`: its source followed, in a process that may die.

Until it has caught up; or until SIGTERM, if it stays.
"""

import asyncio
import importlib
import signal
import sys
from typing import Any

from flows.access import addresses
from flows.kinds.registry import kind_of
from flows.publish.following import Following, Progress
from flows.values.settings import settings
from flows.verbs.load import load_table


async def follow(source: Any, *, stays: bool = False) -> None:
    kind, stop = kind_of(source), asyncio.Event()
    if stays:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def load(table: str) -> None:
        await load_table(addresses.warehouse(), kind.address(source), source, source.table(table))

    async def nothing(_: list[int] | Progress) -> None:
        return None

    await kind.follow(
        Following(
            warehouse=addresses.warehouse(),
            address=kind.address(source),
            source=source,
            tables=source.tables,
            run_id=None,
            load=load,
            stretch_ended=nothing,
            tell=lambda _: None,
            note=nothing,
            until_caught_up=not stays,
            stop=stop,
        )
    )


def main() -> None:
    settings.cache_clear()
    asyncio.run(follow(importlib.import_module(sys.argv[1]).SOURCE, stays="stays" in sys.argv))


if __name__ == "__main__":
    main()
