"""A source whose owner changes a table in a transaction that reads wait for."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import psycopg

from tests.eventually import eventually
from tests.publish.two_ends import TwoEnds

Result = TypeVar("Result")

_WAITING = """
select count(*) from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock' and application_name like 'medallion%'
"""


async def behind(ends: TwoEnds, change: str, read: Coroutine[Any, Any, Result], role: str = "app") -> Result:
    """Begin the change, let the read wait for its lock, commit the change, and return what the read returns."""
    with psycopg.connect(ends.shop.url(role)) as owner:
        owner.execute(change.encode())
        reading = asyncio.create_task(read)
        with psycopg.connect(ends.shop.url("admin"), autocommit=True) as looking:

            def waits() -> bool:
                return reading.done() or looking.execute(_WAITING).fetchone() != (0,)

            await asyncio.to_thread(eventually, waits)
        assert not reading.done(), "the read did not wait for the lock"
        owner.commit()
    return await reading
