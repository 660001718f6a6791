"""Nine writers whose transactions overlap, and loads meanwhile: at rest, raw is the source.

The control reads as one is tempted to: up to the highest id. It loses rows.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import psycopg
import pytest

from flows.declare import Triggers
from flows.kinds.captured import load as loading
from tests.kinds.captured.captured_ends import CapturedEnds
from tests.kinds.captured.overlapping import Writers

LOADS = 6


@pytest.mark.parametrize("per", ["statement", "row"])
async def test_nothing_is_lost_whatever_the_order_of_commits(ends: CapturedEnds, per: str) -> None:
    ends.triggers = Triggers(per=per)  # type: ignore[arg-type]
    await ends.create("id bigint primary key, name text")
    ends.source("insert into items select n, 'x' from generate_series(0, 399) as n")
    writers = Writers(lambda: psycopg.connect(ends.shop.url("app")))
    threads = writers.start()
    try:
        for number in range(LOADS):
            result = await ends.load()
            assert result.counts.reconciliation == "match"
            assert result.strategy == ("merge" if number else "initial")
    finally:
        writers.enough.set()
        for thread in threads:
            thread.join()
    assert writers.failures == []
    await ends.load()
    assert ends.same()
    assert ends.waiting() == []


async def overlapped(ends: CapturedEnds) -> None:
    """A transaction that is recorded first, and commits after another one was loaded."""
    await ends.create("id bigint primary key, name text")
    ends.source("insert into items values (1, 'a'), (2, 'b')")
    await ends.load()
    with psycopg.connect(ends.shop.url("app"), autocommit=True) as early:
        early.execute("begin")
        early.execute("update items set name = 'early' where id = 1")
        ends.source("update items set name = 'late' where id = 2")
        await ends.load()
        early.execute("commit")
    await ends.load()


async def test_a_transaction_that_commits_late_is_not_lost(ends: CapturedEnds) -> None:
    await overlapped(ends)
    assert ends.same()


async def test_a_reader_by_high_water_mark_loses_it(ends: CapturedEnds) -> None:
    """The control: it deletes what is up to the highest id that it has read, when the late one has committed."""
    honest = loading.acknowledge
    marks: list[int] = []

    async def up_to_the_highest(run: Any, planned: Any) -> None:
        marks.extend(last for _, last in planned.taken.runs)
        planned.taken.runs[:] = [(0, max(marks))] if marks else []
        await honest(run, planned)

    recorded = "flows.kinds.captured.plan.recorded"

    def beyond(state: Any, table: Any) -> str:
        return f"id in (select id from {state.names.changes} where capture_id > {max(marks, default=0)})"

    with patch.object(loading, "acknowledge", up_to_the_highest), patch(recorded, beyond):
        await overlapped(ends)
    assert not ends.same()
