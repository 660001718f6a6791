"""The sign of the row counts is no result: if key sets may differ, the keys are compared."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from flows.access.addresses import connect
from flows.declare import Append, Merge, Replace, Sequence, Timestamp
from flows.declare.partition import Every, Partition, partitions
from flows.kinds.answers import Ends
from flows.kinds.postgres import Database, Table
from flows.kinds.postgres.backfill import backfill_partition
from flows.landing import copy
from flows.state import backfills
from flows.state.reconciliations import Reconciliation
from flows.values.errors import DataRefused
from flows.verbs.compare import compare_table
from tests.conftest import TestDatabase
from tests.nightly import each_once
from tests.publish.two_ends import TwoEnds

MERGE = Table("t", key="id", cursor=Timestamp("at"), load=Merge())
PARTS = """
create table t (id bigint, note text, at timestamptz) partition by list ((id < 0));
create table t_new partition of t for values in (false); create table t_old (like t);
insert into t select n, 'n', now() - interval '1 h' from generate_series(1, 200) as n; grant select on t to public
"""


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    return TwoEnds(warehouse, shop)


async def compare(ends: TwoEnds, table: Table, *, repair: bool = False) -> Reconciliation:
    source = Database("shop", connection="shop", tables=[table])
    return await compare_table(ends.warehouse_address, ends.shop_address, source, table, repair=repair)


def attach(ends: TwoEnds) -> None:
    """Five rows of last year come below the cursor."""
    ends.source("insert into t_old select -n, 'old', now() - interval '1 year' from generate_series(1, 5) as n")
    ends.source("alter table t attach partition t_old for values in (true)")


@pytest.mark.parametrize(("gone", "load"), each_once([10, 5, 3, 0], [Merge(), Append()]))
async def test_rows_that_came_below_the_cursor_are_found_whatever_was_deleted(
    ends: TwoEnds, gone: int, load: Merge | Append
) -> None:
    ends.source(PARTS)
    table = replace(MERGE, load=load)
    await ends.load(table)
    ends.source(f"delete from t where id <= {gone}")
    attach(ends)

    found = (await ends.load(table)).counts

    assert (found.reconciliation, found.missing_rows) == ("missing", 5)
    assert found.extra_rows == gone
    assert "5 keys missing" in await ends.reason(table)
    again = (await ends.load(table)).counts
    assert (again.rows_inserted, again.reconciliation) == (5, "extra" if gone else "match")
    assert ends.raw("select count(*) from raw_shop.t where id < 0") == [(5,)]


async def test_the_same_differences_are_not_compared_twice(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows deleted at the source stay in raw for good: that must not cost a scan of all keys at every load."""
    calls: list[str] = []
    real = copy.copy_keys

    async def counted(*given: Any) -> int:
        calls.append("keys")
        return await real(*given)

    ends.source(PARTS)
    await ends.load(MERGE)
    ends.source("delete from t where id <= 10")
    first = (await ends.load(MERGE)).counts
    assert (first.reconciliation, first.missing_rows, first.extra_rows) == ("extra", 0, 10)
    monkeypatch.setattr(copy, "copy_keys", counted)

    second = (await ends.load(MERGE)).counts

    assert (second.reconciliation, second.extra_rows, calls) == ("extra", 10, [])
    ends.source("delete from t where id = 11")
    assert (await ends.load(MERGE)).counts.extra_rows == 11
    assert len(calls) == 1


async def test_a_repair_heeds_max_deleted(ends: TwoEnds) -> None:
    ends.source(
        "create table t as select n as id, now() as at from generate_series(1, 500) as n; grant select on t to public"
    )
    for load in (Merge(), Replace(), Append()):
        table = Table("t", key="id", load=load, cursor=Sequence("id") if isinstance(load, Append) else None)
        await ends.load(table)
        ends.source("create table kept as select * from t; delete from t where id > 5")
        with pytest.raises(DataRefused, match="495 of 500"):
            await compare(ends, table, repair=True)
        assert ends.raw("select count(*) from raw_shop.t where _deleted_at is null") == [(500,)]
        ends.source("truncate t; insert into t select * from kept where id > 200; drop table kept")
        assert (await compare(ends, table, repair=True)).result == "match"
        ends.source("truncate t; insert into t select n, now() from generate_series(1, 500) as n")
        ends.raw("drop table raw_shop.t; delete from ops.cursors")


async def test_a_repair_in_many_rounds_heeds_it_as_a_whole(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its loads deletes a small share."""
    monkeypatch.setattr("flows.verbs.compare._KEYS_REPAIRED", 20)
    ends.source(
        "create table t as select n as id, now() as at from generate_series(1, 500) as n; grant select on t to public"
    )
    table = Table("t", key="id", load=Merge())
    await ends.load(table)
    ends.source("delete from t where id > 5")
    with pytest.raises(DataRefused, match="max_deleted"):
        await compare(ends, table, repair=True)
    assert (await compare(ends, replace(table, max_deleted=1.0), repair=True)).result == "match"


@pytest.mark.parametrize("every", ["year", "day"])
async def test_a_backfill_heeds_max_deleted(ends: TwoEnds, every: Every) -> None:
    """Also in partitions that are small one by one."""
    ends.source(
        "create table t as select n as id, now() as at, date '2024-01-01' + n % 50 as day "
        "from generate_series(1, 500) as n; grant select on t to public"
    )
    table = Table("t", key="id", cursor=Timestamp("at"), load=Merge(), deletes=True)
    await ends.load(table)
    ends.source("delete from t where id > 5")
    source = Database("shop", connection="shop", tables=[table])
    both = Ends(ends.warehouse_address, ends.shop_address, source, table)
    days = (date(2024, 1, 1), date(2024, 12, 31))
    async with connect(ends.warehouse_address, side="warehouse") as warehouse:
        number, _ = await backfills.open_backfill(warehouse, "shop", "t", "day", every, days, restart=False)

    async def each(wanted: list[Partition]) -> None:
        for partition in wanted:
            await backfill_partition(both, "day", partition, number)

    with pytest.raises(DataRefused, match="max_deleted"):
        await each(partitions(*days, every))
    ((alive,),) = ends.raw("select count(*) from raw_shop.t where _deleted_at is null")
    assert alive >= 250


@pytest.mark.parametrize(("load", "key"), each_once([Replace(), Merge()], ["id", ("id", "note")]))
async def test_rows_with_a_null_in_their_key_stay_in_quarantine_as_they_are(
    ends: TwoEnds, load: Replace | Merge, key: str | tuple[str, ...]
) -> None:
    ends.source(
        "create table t (id int, note text); insert into t select n, 'n' from generate_series(1, 10) as n;"
        "insert into t values (null, 'a'), (null, 'b'), (null, 'b'); grant select on t to public"
    )
    table = Table("t", key=key, load=load, max_quarantined=0.5)
    image = "select quarantine_id, resolved_at, resolution from quarantine.rows order by 1"
    first = (await ends.load(table)).counts
    assert (first.quarantine_rows, first.reconciliation) == (3, "match")
    before = ends.raw(image)
    for _ in range(2):
        counts = (await ends.load(table)).counts
        assert (counts.quarantine_rows, counts.reconciliation) == (3, "match")
    assert ends.raw(image) == before
    ends.source(
        "delete from t where id is null and note = 'a'; update t set id = 11 where ctid = "
        "(select min(ctid) from t where id is null and note = 'b')"
    )
    counts = (await ends.load(table)).counts
    assert (counts.quarantine_rows, counts.reconciliation) == (1, "match")


WRITTEN_OTHERWISE = {
    "numeric": ("1.0", "1.00"),
    "interval": ("'24 h'", "'1 day'"),
    "float8": ("'0'", "'-0'"),
    "numeric[]": ("'{1.0}'", "'{1.00}'"),
}


@pytest.mark.parametrize(("kind", "load"), each_once(WRITTEN_OTHERWISE, [Merge(), Replace()]))
async def test_an_equal_key_that_is_written_otherwise_arrives(ends: TwoEnds, kind: str, load: Merge | Replace) -> None:
    before, after = WRITTEN_OTHERWISE[kind]
    ends.source(
        f"create table t (id {kind}, note text); insert into t values ({before}, 'x'); grant select on t to public"
    )
    table = Table("t", key="id", load=load)
    await ends.load(table)
    ends.source(f"update t set id = {after}")

    for _ in range(2):
        counts = (await ends.load(table)).counts
        assert counts.reconciliation == "match"
    assert ends.same("t", "id, note")
    assert (await compare(ends, table)).result == "match"
    assert ends.raw("select count(*) from raw_shop.t") == [(1,)]


async def test_an_equal_key_below_the_cursor_is_no_missing_row_and_a_repair_brings_it(ends: TwoEnds) -> None:
    ends.source(
        "create table t (id numeric, at timestamptz); insert into t values (1.0, now() - interval '1 h'); "
        "grant select on t to public"
    )
    await ends.load(MERGE)
    ends.source("update t set id = 1.00")

    results = [(await ends.load(MERGE)).counts.reconciliation for _ in range(3)]

    assert "missing" not in results
    assert (await compare(ends, MERGE)).result == "different"
    assert (await compare(ends, MERGE, repair=True)).result == "match"
    assert ends.raw("select id::text, _deleted_at from raw_shop.t") == [("1.00", None)]


async def test_identifiers_taken_early_and_used_late_are_noticed_without_a_key(ends: TwoEnds) -> None:
    """Blocks of a mapper: 1 to 50 go to a session that inserts after the one with 51 to 100."""
    ends.source(
        "create table t (id bigint, note text); grant select on t to public;"
        "insert into t select n, 'n' from generate_series(51, 60) as n"
    )
    table = Table("t", load=Append(), cursor=Sequence("id"))
    await ends.load(table)
    for gone in (0, 3, 5):
        ends.source(f"delete from t where id > 51 and id <= 51 + {gone}")
        ends.source("insert into t values (1, 'late'), (2, 'late'), (3, 'late')")
        result = await ends.load(table)
        assert result.counts.reconciliation == "missing", gone
        assert result.counts.missing_rows == 3, gone
        assert result.warning is not None
        assert "without a key" in result.warning
        ends.source("truncate t; insert into t select n, 'n' from generate_series(51, 60) as n")
        ends.raw("drop table raw_shop.t; delete from ops.cursors")
        await ends.load(table)
