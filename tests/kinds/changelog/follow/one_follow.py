"""`python -m tests.kinds.changelog.follow.one_follow MODULE`: the module's source followed until it has caught up, in a
process that may die."""

import asyncio
import importlib
import sys
from typing import Any

from flows.access import addresses
from flows.kinds.registry import kind_of
from flows.publish.following import Following, Progress
from flows.values.settings import settings
from flows.verbs.load import load_table


async def follow(source: Any) -> None:
    kind = kind_of(source)

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
            until_caught_up=True,
        )
    )


def main() -> None:
    settings.cache_clear()
    asyncio.run(follow(importlib.import_module(sys.argv[1]).SOURCE))


if __name__ == "__main__":
    main()
