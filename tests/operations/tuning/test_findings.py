"""Bottlenecks are named from the ledger, each only if its figures are there."""

from datetime import timedelta

import pytest

from flows.kinds.postgres import Table
from flows.operations.tuning.findings import Finding
from flows.state.usage import Usage, record_usage
from tests.operations.ledger import table
from tests.operations.tuning.tuned import HOUR, NOW, Tuned

BASKETS: Table = table("baskets")
#: Days of history that begin on a Monday, each with a load an hour.
WEEK = 7 * 24


async def found(ends: Tuned) -> dict[str, Finding]:
    """By bottleneck."""
    advice = await ends.advice(BASKETS, now=NOW + HOUR)
    assert all(each.subject == "shop.baskets" for each in advice.findings)
    return {each.bottleneck: each for each in advice.findings}


async def test_a_steady_history_has_its_duration_and_nothing_else(empty: Tuned) -> None:
    empty.ledger("baskets", WEEK, seconds=60, rows=5_000, changed=50)
    (only,) = (await found(empty)).values()
    assert (only.bottleneck, only.runs) == ("duration", WEEK)
    assert only.seconds_a_day == pytest.approx(60 * 24, rel=0.05)
    assert "median 60.0 s, p95 60.0 s" in only.figures


async def test_loads_that_grow_fail_wait_or_have_a_slow_weekday_are_named_with_their_figures(empty: Tuned) -> None:
    empty.ledger("baskets", WEEK, seconds=40, size=4 * 10**8, ending=NOW - 14 * 24 * HOUR)
    empty.ledger("baskets", WEEK, seconds=50, size=4 * 10**8, ending=NOW - 7 * 24 * HOUR)
    empty.ledger("baskets", WEEK, seconds=70, size=4 * 10**8)
    empty.ledger("baskets", 60, seconds=30, status="failed", ending=NOW - HOUR / 2)
    # Mondays of the last three weeks.
    empty.raw(
        "update ops.loads set finished_at = started_at + interval '200 s' "
        "where status = 'published' and extract(isodow from started_at at time zone 'UTC') = 1"
    )
    empty.raw(
        "insert into ops.runs (pipeline, scope, status, started_at) values ('ingest', 'shop', 'done', %s)",
        [NOW - timedelta(days=40)],
    )
    named = await found(empty)
    assert {"duration", "growth", "weekday", "throughput", "error rate"} <= named.keys()
    assert "Monday: median 200.0 s" in named["weekday"].figures
    assert named["error rate"].figures.startswith("60 of 564 loads failed (11 %)")
    assert "waiting" not in named


async def test_waiting_is_named_from_the_start_of_the_run(empty: Tuned) -> None:
    ((run,),) = empty.raw(
        "insert into ops.runs (pipeline, scope, status, started_at) values ('ingest', 'shop', 'done', %s) "
        "returning run_id",
        [NOW - timedelta(days=1, minutes=2)],
    )
    empty.ledger("baskets", 8, seconds=30, ending=NOW - timedelta(days=1), every=timedelta(), run=run)
    named = await found(empty)
    assert "waits 120.0 s" in named["waiting"].figures


async def test_cpu_and_memory_are_those_of_the_last_load(empty: Tuned) -> None:
    empty.ledger("baskets", WEEK)
    used = Usage("load", "shop", "baskets", "published", 60, cpu_seconds=58, memory_bytes=3 * 1024**3)
    from flows.access.addresses import connect

    async with connect(empty.warehouse_address, side="warehouse") as connection:
        await record_usage(connection, [used])
    named = await found(empty)
    assert "58.0 s of the last load's 60.0 s" in named["CPU"].figures
    assert "3.2 GB" in named["memory"].figures
