"""Tables that are changed while they are read: rows are those after the change, and bytes mean what they meant."""

import contextlib
import threading
from collections.abc import Callable
from itertools import product
from typing import Any

import psycopg
import pytest

from flows.declare import Merge, Overwrite, Replace, Timestamp, TransactionId
from flows.kinds.postgres import Database, Table, reading, stage
from flows.kinds.postgres.compare import both_ends, repair
from flows.kinds.postgres.large import chunks
from flows.values.errors import SourceUnavailable
from flows.verbs.compare import compare_table
from tests.conftest import TestDatabase
from tests.kinds.loading import setting
from tests.kinds.postgres import test_backfill
from tests.kinds.postgres.waiting import behind
from tests.nightly import each_once
from tests.publish.two_ends import TwoEnds

ROWS = "select n as id, n as v, timestamptz '2026-01-01' + n * interval '1 s' as at from generate_series(1, {}) as n"
CREATE = f"create table t (id int primary key, v int, at timestamptz); insert into t {ROWS.format(400)}; analyze t"
# What a nightly job does, and what a migration does. A statement that began before sees an empty table after either.
REWRITES = {
    "truncate and load": f"truncate t; insert into t {ROWS.format(400)}",
    "a rewriting alter": "alter table t alter column v type int using v + 0; alter table t alter column v set not null",
}
MERGED = Table("t", key="id", cursor=Timestamp("at"), load=Merge(), deletes=True, max_deleted=1)
LOADS = {
    "merge": MERGED,
    "by transaction": Table("t", key="id", cursor=TransactionId(), load=Merge(), deletes=True, max_deleted=1),
    "replace": Table("t", key="id", load=Replace(min_share=0)),
    "overwrite": Table("t", key="id", load=Overwrite(by="at", every="month", last=99)),
}
SMALL = {"medium_load_mb": 0.001, "chunk_min_mb": 0.001, "chunk_max_mb": 0.004}


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    two = TwoEnds(warehouse, shop)
    two.source(CREATE)
    return two


@pytest.mark.parametrize(("load", "meanwhile"), each_once(LOADS, product(REWRITES, ["at once", "in chunks"])))
async def test_a_read_that_waits_behind_a_rewrite_sees_the_rows_after_it(
    ends: TwoEnds, load: str, meanwhile: tuple[str, str]
) -> None:
    rewrite, how = meanwhile
    await ends.load(LOADS[load])

    with setting(**SMALL if how == "in chunks" else {}):
        result = await behind(ends, REWRITES[rewrite], ends.load(LOADS[load]))

    assert (result.counts.rows_deleted, result.counts.reconciliation) == (0, "match")
    assert ends.raw("select count(*) from raw_shop.t where _deleted_at is null") == [(400,)]


async def test_the_lock_is_taken_before_the_snapshot_also_when_the_plan_is_made(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rewrite begins after the plan, so only the reading transaction waits for it."""
    await ends.load(MERGED)
    result = await _behind_the_reading_only(ends, monkeypatch, stage, ends.load(MERGED))

    assert (result.counts.rows_deleted, result.counts.reconciliation) == (0, "match")


async def test_control_with_the_snapshot_before_the_lock_living_rows_are_marked_deleted(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ends.load(MERGED)
    monkeypatch.setattr(reading, "_SNAPSHOT", reading._SNAPSHOT + "; select 1")

    result = await _behind_the_reading_only(ends, monkeypatch, stage, ends.load(MERGED))

    assert (result.counts.rows_deleted, result.counts.reconciliation) == (400, "match")


async def test_each_window_of_a_read_waits_for_a_rewrite(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    ends.source("create index on t (at)")
    await ends.load(MERGED)
    ends.raw("update ops.cursors set cursor_value = '2026-01-01 00:00:00+00', cursor_key = null, identity = null")
    ends.source(f"truncate t; insert into t {ROWS.format(4000)}; analyze t")
    start, calls = reading.start_reading, list[int]()

    async def second_waits(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        reads = start(*arguments, **named)
        return await (behind(ends, "create temp table h as table t; truncate t; insert into t table h", reads)
                      if len(calls) == 2 else reads)  # fmt: skip

    monkeypatch.setattr(stage, "start_reading", second_waits)

    with setting(**SMALL):
        result = await ends.load(MERGED)

    assert (len(calls) > 2, result.counts.rows_deleted, result.counts.reconciliation) == (True, 0, "match")
    assert ends.same("t", "id, v, at")


async def test_a_backfill_waits_for_a_rewrite(ends: TwoEnds) -> None:
    ends.source(
        "create table sales (id int primary key, sold_at timestamptz, v int, updated_at timestamptz default now());"
        "insert into sales select n, timestamptz '2024-02-01 00:00+00' + n * interval '1 hour', n, "
        "now() - interval '9 d' from generate_series(0, 90) as n"
    )
    await ends.load(test_backfill.SALES)
    rewrite = "create temp table held as table sales; truncate sales; insert into sales table held"

    result = await behind(ends, rewrite, test_backfill.backfill(ends))

    assert (result.counts.rows_read, result.counts.rows_deleted, result.counts.reconciliation) == (91, 0, "match")


async def test_a_comparison_and_its_repair_wait_for_a_rewrite(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    await ends.load(MERGED)
    source = Database("shop", connection="shop", tables=[MERGED])
    compared = await _behind_the_reading_only(ends, monkeypatch, both_ends, _compare(ends, source))
    assert (compared.result, compared.source_rows) == ("match", 400)
    ends.raw("update raw_shop.t set v = -1 where id <= 10")

    repaired = await _behind_the_reading_only(ends, monkeypatch, repair, _compare(ends, source, repair=True))

    assert (repaired.result, repaired.repaired) == ("match", 10)
    assert ends.raw("select count(*) from raw_shop.t where _deleted_at is null") == [(400,)]


async def test_a_materialized_view_that_is_refreshed_meanwhile_is_read_whole(ends: TwoEnds) -> None:
    """It refuses LOCK: another session selects from it first."""
    ends.source("create materialized view m as select * from t")
    ends.source("grant select on m to medallion_extractor")
    view = Table("m", key="id", load=Merge(), deletes=True, max_deleted=1)
    await ends.load(view)

    result = await behind(ends, "refresh materialized view m", ends.load(view))

    assert (result.counts.rows_deleted, result.counts.reconciliation) == (0, "match")


async def test_a_view_waits_for_what_it_reads_from(ends: TwoEnds) -> None:
    ends.source("create materialized view m as select * from t; create view w as select m.* from m join t using (id)")
    ends.source("grant select on m, w to medallion_extractor")
    view = Table("w", key="id", load=Merge(), deletes=True, max_deleted=1)
    await ends.load(view)

    for change in ("refresh materialized view m", REWRITES["truncate and load"]):
        result = await behind(ends, change, ends.load(view))
        assert (result.counts.rows_deleted, result.counts.reconciliation) == (0, "match")


@pytest.mark.parametrize(
    ("change", "module"),
    each_once(
        [
            "alter table t alter column v type float8",
            "alter table t drop column v; alter table t add column v text default 'x'",
            "alter table t add column more int",
        ],
        [stage, both_ends],
    ),
)
async def test_columns_that_change_while_a_read_begins_are_never_read_with_their_old_types(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch, module: Any, change: str
) -> None:
    """COPY's bytes of an int, read as those of a double, are another number: 100 became 4636737291354636288."""
    await ends.load(MERGED)
    ends.source("update t set at = now()")
    before = ends.raw("select id, v from raw_shop.t order by id")
    _once_before(monkeypatch, module, lambda: ends.source(change))
    source = Database("shop", connection="shop", tables=[MERGED])

    with pytest.raises(SourceUnavailable, match="columns of the table changed") as refused:
        await (ends.load(MERGED) if module is stage else _compare(ends, source))

    assert refused.value.retryable
    assert ends.raw("select id, v from raw_shop.t order by id") == before


async def test_a_chunked_read_is_not_resumed_by_page_in_a_table_that_was_rewritten(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    _once_before(monkeypatch, stage, lambda: ends.source(REWRITES["truncate and load"]))

    with setting(**SMALL), pytest.raises(SourceUnavailable, match="was rewritten"):
        await ends.load(MERGED)


async def test_chunk_readers_give_way_to_a_schema_change_that_waits(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the session that holds the snapshot, and they for it: PostgreSQL cannot see that circle."""
    monkeypatch.setattr(reading, "_CIRCLE_ENDS_AFTER", "set local lock_timeout = '50ms'")
    join = reading.join_reading

    async def behind_an_alter(*arguments: Any, **named: Any) -> Any:
        with psycopg.connect(ends.shop.url("app")) as owner:
            owner.execute("set lock_timeout = '20s'")

            def alter() -> None:
                with contextlib.suppress(psycopg.errors.QueryCanceled):
                    owner.execute("alter table t add column late int")

            altering = threading.Thread(target=alter)
            altering.start()
            while not ends.source(
                "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like 'alter table t%'"
                " and datname = current_database()"
            ):
                pass
            try:
                return await join(*arguments, **named)
            finally:
                owner.cancel()
                altering.join()

    monkeypatch.setattr(chunks, "join_reading", behind_an_alter)
    with setting(**SMALL), pytest.raises(SourceUnavailable, match=r"55P03.*waiting for AccessExclusiveLock") as refused:
        await ends.load(MERGED)
    assert refused.value.retryable


async def _compare(ends: TwoEnds, source: Database, *, repair: bool = False) -> Any:
    return await compare_table(ends.warehouse_address, ends.shop_address, source, MERGED, repair=repair)


def _once_before(monkeypatch: pytest.MonkeyPatch, module: Any, change: Callable[[], object]) -> None:
    start, todo = module.start_reading, [change]

    async def changed_first(*arguments: Any, **named: Any) -> Any:
        if todo:
            todo.pop()()
        return await start(*arguments, **named)

    monkeypatch.setattr(module, "start_reading", changed_first)


async def _behind_the_reading_only(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch, module: Any, work: Any) -> Any:
    start = module.start_reading

    async def waiting(*arguments: Any, **named: Any) -> Any:
        return await behind(ends, REWRITES["truncate and load"], start(*arguments, **named))

    with monkeypatch.context() as patched:
        patched.setattr(module, "start_reading", waiting)
        return await work
