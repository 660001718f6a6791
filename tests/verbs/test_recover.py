"""A table is brought back to what its source holds: whatever is wrong with it, and whatever happens meanwhile."""

import asyncio
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import pytest

from flows.access.addresses import connect
from flows.declare import Append, Budget, Replace, Sequence
from flows.failures.failpoints import RECOVERY_FAILPOINTS
from flows.kinds.postgres import Table
from flows.state import recoveries, table_locks
from flows.values.errors import DataRefused, DeclarationError, LoadLocked
from flows.values.settings import settings
from flows.verbs.recover import Agreed, recover
from flows.verbs.recovery import Asked, Plan
from flows.verbs.recovery_preview import look
from tests.conftest import TestDatabase
from tests.kinds.conformance import forking
from tests.kinds.loading import setting
from tests.publish.two_ends import TwoEnds
from tests.verbs.one_recovery import ITEMS, SHOP, nobody, recovered

LOG = Table("log", cursor=Sequence("id"), load=Append())
COPIED = Table("copied", key="id", load=Replace())


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoEnds]:
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", warehouse.url("loader"))
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", shop.url("extractor"))
    monkeypatch.setattr("flows.verbs.find.SOURCES", (replace(SHOP, tables=[ITEMS, LOG, COPIED]),))
    settings.cache_clear()
    two = TwoEnds(warehouse, shop)
    two.source(
        "create table items (id int primary key, v int, at timestamptz);"
        "insert into items select n, n, timestamptz '2017-01-01' + n * interval '1 d' from generate_series(1, 20) n;"
        "create table log (id int generated always as identity, v int);"
        "insert into log (v) select n from generate_series(1, 20) as n;"
        "create table copied as select id, v from items;"
        "grant select on all tables in schema public to public"
    )
    yield two
    settings.cache_clear()


async def plan_of(name: str, asked: Asked | None = None) -> Plan:
    (plan,) = await look([name], asked or Asked())
    return plan


def actions(plan: Plan) -> list[str]:
    return [step.action for step in plan.steps]


async def test_nothing_is_to_be_done_where_both_ends_match(ends: TwoEnds) -> None:
    await ends.load(ITEMS)

    plan = await plan_of("shop.items")

    assert (actions(plan), plan.left, plan.is_needed) == ([], (), False)
    assert await recovered("shop.items") == []
    assert ends.raw("select from ops.recoveries") == []


async def test_a_damaged_value_a_missing_and_a_surplus_row_are_repaired_and_it_is_recorded_who_and_why(
    ends: TwoEnds,
) -> None:
    await ends.load(ITEMS)
    ends.raw("update raw_shop.items set v = 99 where id = 3; delete from raw_shop.items where id = 4")
    ends.source("delete from items where id = 5")

    (plan,) = await look(["shop.items"], Asked())
    assert "repair" in actions(plan)
    assert ends.raw("select v from raw_shop.items where id = 3") == [(99,)], "a look changes nothing"
    (done,) = await recovered("shop.items", reason="a script wrote into raw")

    assert done.agrees
    assert done.after is not None
    assert done.after.result == "match"
    assert ends.same("items", "id, v")
    assert ends.raw("select recovered_by, reason, outcome, finished_at is null from ops.recoveries") == [
        ("ada", "a script wrote into raw", "match", False)
    ]
    assert ends.raw("select pipeline, scope, status from ops.runs") == [("recover", "shop.items", "done")]
    assert await recovered("shop.items") == []


async def test_a_table_that_was_never_loaded_or_stopped_at_a_budget_is_loaded(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    (done,) = await recovered("shop.items")
    assert done.plan.startswith("load")
    assert ends.same("items", "id, v")

    ends.source("insert into items select n, n, timestamptz '2018-01-01' + n * interval '1 h' "
                "from generate_series(100, 200) as n; create index on items (at)")  # fmt: skip
    ends.raw("update ops.cursors set cursor_value = '2017-12-01 00:00:00+00'")
    limited = replace(ITEMS, budget=Budget(rows=10))
    monkeypatch.setattr("flows.verbs.find.SOURCES", (replace(SHOP, tables=[limited]),))
    assert (await ends.load(limited)).stopped
    (done,) = await recovered("shop.items")
    assert done.after is not None
    assert done.after.result == "match", "whoever recovers has seen what is read: no budget stops it"


async def test_appended_rows_are_never_in_raw_twice(ends: TwoEnds) -> None:
    """Without a key, only what is pending can be read; what differs is left with a word."""
    await ends.load(LOG)
    ends.source("insert into log (v) select n from generate_series(21, 30) as n")
    ends.raw("delete from raw_shop.log where id = 7")

    plan = await plan_of("shop.log")
    assert "reload shop.log --recreate" in " ".join(plan.left)
    await recovered("shop.log")

    assert ends.raw("select count(*), count(distinct id) from raw_shop.log") == [(29, 29)]
    with pytest.raises(DeclarationError):
        await look(["shop.log"], Asked(date(2017, 1, 1)))


async def test_a_deleted_row_is_not_brought_back_by_its_quarantined_version(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends.source("update items set v = -1 where id in (8, 9)")
    await ends.load(ITEMS)
    ends.source("delete from items where id = 8")
    loose = replace(SHOP, tables=[replace(ITEMS, rules=())])
    monkeypatch.setattr("flows.verbs.find.SOURCES", (loose,))

    plan = await plan_of("shop.items")
    assert actions(plan)[-1] == "replay"
    (done,) = await recovered("shop.items")

    assert done.agrees
    assert ends.raw("select id from raw_shop.items where id in (8, 9) and _deleted_at is null") == [(9,)]
    assert ends.same("items", "id, v")


async def test_rows_marked_as_deleted_stay_deleted_when_days_are_read_again(ends: TwoEnds) -> None:
    await ends.load(ITEMS)
    ends.source("delete from items where id = 8")
    await ends.load(ITEMS)
    ends.source("update items set v = 500 where id = 9")  # without its cursor

    (done,) = await recovered("shop.items", asked=Asked(date(2017, 1, 5), date(2017, 1, 15), "at"))

    assert done.plan.startswith("window")
    assert done.agrees
    assert ends.raw("select id from raw_shop.items where _deleted_at is not null") == [(8,)]
    assert ends.raw("select v from raw_shop.items where id = 9") == [(500,)]
    assert ends.raw("select count(*) from ops.backfills where finished_at is not null") == [(1,)]


async def test_without_a_column_of_days_the_cursor_goes_back(ends: TwoEnds) -> None:
    await ends.load(ITEMS)
    ends.source("update items set v = 500 where id = 19")

    plan = await plan_of("shop.items", Asked(date(2017, 1, 18)))
    assert actions(plan) == ["rewind"]
    assert plan.rows == 4
    (done,) = await recovered("shop.items", asked=Asked(date(2017, 1, 18)))

    assert done.agrees
    assert ends.same("items", "id, v")
    with pytest.raises(DeclarationError, match="would be skipped"):
        await look(["shop.items"], Asked(date(2100, 1, 1)))


async def test_killed_anywhere_it_is_completed_by_the_same_command(ends: TwoEnds) -> None:
    await ends.load(ITEMS)
    variables = {
        "MEDALLION_WAREHOUSE_URL": ends.warehouse.url("loader"),
        "MEDALLION_SOURCE_SHOP_URL": ends.shop.url("extractor"),
    }
    for failpoint in (*RECOVERY_FAILPOINTS, "in_publish_before_commit"):
        ends.raw("update raw_shop.items set v = 99 where id = 3")
        done = forking.run("tests.verbs.one_recovery", ["shop.items"], {**variables, "MEDALLION_FAILPOINT": failpoint})
        assert done.returncode == -signal.SIGKILL, f"{failpoint}: {done.stderr}"
        assert ends.raw("select count(*) from ops.recoveries where finished_at is null") == [(1,)], failpoint

        plan = await plan_of("shop.items")
        assert plan.found.interrupted is not None
        asked = list[tuple[str, list[int]]]()

        async def forget(source: str, batches: list[int], asked: list[tuple[str, list[int]]] = asked) -> int:
            asked.append((source, batches))
            return 0

        await recovered("shop.items", forget=forget)

        assert ends.same("items", "id, v")
        assert ends.raw("select count(*) from ops.recoveries where finished_at is null") == [(0,)], failpoint
        # The batches of the killed one are looked through too: it may have brought a person back.
        repairs = ends.raw("select count(*) from ops.loads where strategy = 'repair' and status = 'published'")
        assert asked
        assert repairs[0][0] >= 1


async def test_two_recoveries_of_a_table_do_not_run_at_once_and_a_load_is_waited_for(ends: TwoEnds) -> None:
    await ends.load(ITEMS)
    ends.raw("update raw_shop.items set v = 99 where id = 3")
    async with connect(ends.warehouse_address, side="warehouse") as other:
        assert await recoveries.take_turn(other, "shop", "items")
        (refused,) = await recovered("shop.items")
        assert isinstance(refused.error, LoadLocked)
        await recoveries.end_turn(other, "shop", "items")
        assert await table_locks.lock_table(other, "shop", "items")
        with setting(lock_wait_seconds=0.2):
            (waited,) = await recovered("shop.items")
        assert isinstance(waited.error, LoadLocked)
        assert waited.error.retryable
        await table_locks.unlock_table(other, "shop", "items")
    assert ends.raw("select v from raw_shop.items where id = 3") == [(99,)]

    done, loaded = await asyncio.gather(recovered("shop.items"), ends.load(ITEMS))

    assert done[0].agrees
    assert loaded.counts.rows_inserted == 0
    assert ends.same("items", "id, v")


async def test_a_plan_that_became_another_one_is_void(ends: TwoEnds) -> None:
    await ends.load(ITEMS)
    ends.raw("update raw_shop.items set v = 99 where id = 3")
    plans = await look(["shop.items"], Asked())
    ends.raw("update raw_shop.items set v = 0")
    long_ago = time.monotonic() - 3600

    ends.raw("delete from raw_shop.items where id > 2")
    ends.source("insert into items select n, n, timestamptz '2017-01-01' from generate_series(1000, 1400) as n")
    with pytest.raises(DataRefused, match="changed since it was shown"):
        await recover(plans, Asked(), Agreed("ada", "late", long_ago), nobody)

    assert ends.raw("select from ops.recoveries") == []


async def test_a_source_is_recovered_table_by_table_and_one_that_fails_does_not_stop_the_others(ends: TwoEnds) -> None:
    for table in (ITEMS, LOG, COPIED):
        await ends.load(table)
    ends.source("update copied set v = 7 where id = 1")
    ends.source("alter table items rename to items_away")

    plans = {plan.found.name: plan for plan in await look(["shop"], Asked())}
    assert plans["shop.items"].found.error is not None
    assert actions(plans["shop.copied"]) == ["load"]
    assert actions(plans["shop.log"]) == []
    (done,) = await recovered("shop")

    assert (done.table, done.agrees) == ("shop.copied", True)
