"""The story of backfill, on a real Prefect server: killed, failed, run again."""

import asyncio
import os
import signal
import subprocess
import sys
from datetime import UTC, date, datetime
from typing import Any

import pytest

from flows.backfill import backfill
from flows.values.errors import DataRefused
from tests.flows.conftest import Ends
from tests.flows.prefect_facts import task_runs
from tests.kinds.conformance.forking import ROOT
from tests.kinds.loading import change, load, rows
from tests.nightly import nightly

RANGE = (date(2017, 1, 1), date(2017, 6, 30))
REPAIRED = "update baskets set week = week + 100"


async def run(**options: Any) -> Any:
    return await backfill("shop.baskets", *RANGE, by="sold_at", return_state=True, **options)


def done(ends: Ends) -> list[date]:
    query = "select lower_bound from ops.backfill_partitions order by backfill_id, lower_bound"
    return [row["lower_bound"] for row in rows(ends.warehouse, query)]


async def test_a_stretch_of_months_is_read_again_one_task_each(ends: Ends) -> None:
    await load(ends.warehouse, ends.shop, "baskets")
    change(ends.shop, REPAIRED)

    state = await run()

    facts = await state.aresult()
    assert len(facts) == 6
    assert {one["counts"]["reconciliation"] for one in facts} == {"match"}
    assert done(ends) == [date(2017, month, 1) for month in range(1, 7)]
    assert {run.name for run in task_runs(state, 6)} >= {"shop.baskets 2017-02-01 to 2017-02-28"}
    repaired = rows(
        ends.warehouse, "select bool_and((week > 100) = (sold_at < '2017-07-01')) as so from raw_shop.baskets"
    )
    assert repaired == [{"so": True}]


async def test_a_partition_that_fails_leaves_those_before_it_and_the_next_run_goes_on_there(ends: Ends) -> None:
    """A basket sold in the far future breaks a rule of the door, and its partition is refused."""
    await load(ends.warehouse, ends.shop, "baskets")
    future = datetime.now(UTC).year + 2
    change(ends.shop, REPAIRED, f"update baskets set sold_at = '{future}-05-05' where basket_id > 31000148")
    stretch: dict[str, Any] = {"first": date(2017, 1, 1), "last": date(future, 12, 31), "every": "year"}

    failed: Any = await backfill("shop.baskets", by="sold_at", return_state=True, **stretch)
    with pytest.raises(DataRefused, match="2 of 2 rows break a rule"):
        await failed.aresult()
    kept = done(ends)
    change(ends.shop, "update baskets set sold_at = '2017-12-30' where basket_id > 31000148")
    again: Any = await backfill("shop.baskets", by="sold_at", return_state=True, **stretch)

    assert len(kept) == future - 2017
    assert len(await again.aresult()) == 1
    assert len(rows(ends.warehouse, "select * from ops.backfills where finished_at is not null")) == 1
    ended = rows(ends.warehouse, "select status from ops.runs order by run_id")
    assert [run["status"] for run in ended] == ["refused", "done"]


@pytest.mark.parametrize("failpoint", ["in_publish_before_commit", *nightly("after_copy", "after_commit")])
async def test_a_backfill_killed_at_its_first_partition_goes_on_behind_what_is_in(ends: Ends, failpoint: str) -> None:
    await load(ends.warehouse, ends.shop, "baskets")
    change(ends.shop, REPAIRED)
    days = ["--from", "2017-01-01", "--to", "2017-06-30"]
    died = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "flows.cli", "backfill", "shop.baskets", *days, "--by", "sold_at"],
        cwd=ROOT,
        env=os.environ | {"MEDALLION_FAILPOINT": failpoint},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    kept = done(ends)
    assert kept == ([date(2017, 1, 1)] if failpoint == "after_commit" else [])

    state = await run()

    assert len(await state.aresult()) == 6 - len(kept)
    assert done(ends) == [date(2017, month, 1) for month in range(1, 7)]
    assert {one["status"] for one in rows(ends.warehouse, "select status from ops.runs")} == {"failed", "done"}


async def test_one_that_came_to_its_end_begins_anew(ends: Ends) -> None:
    await load(ends.warehouse, ends.shop, "baskets")
    await run()

    again = await run()

    assert len(await again.aresult()) == 6
    assert len(done(ends)) == 12
