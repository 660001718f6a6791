"""Keys that are not unique at the source: set aside by name, counted, and no result calls it a match.

The declared key is a promise of ours: without a unique index, nothing at the source need keep it.
"""

from dataclasses import replace
from typing import Literal

import pytest

from flows.declare import Append, Merge, Overwrite, Replace, Rule, Sequence, Timestamp
from flows.kinds.postgres import Database, Table
from flows.state.reconciliations import Reconciliation
from flows.values.errors import DataRefused, DeclarationError
from flows.verbs.compare import compare_table
from tests.conftest import TestDatabase
from tests.nightly import chosen, each_once
from tests.publish.two_ends import Rows, TwoEnds

OPEN = (
    "select row_data ->> 'note' from quarantine.rows where rule = 'key_not_unique' and resolved_at is null order by 1"
)


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    """Ids 1, 1, 2 and 3 to 12; nothing forbids the second 1."""
    found = TwoEnds(warehouse, shop)
    found.source(
        "create table t (id int, note text, day date default current_date, "
        "at timestamptz default now() - interval '1 h');"
        "insert into t values (1, 'one'), (1, 'other'), (2, 'two');"
        "insert into t select n, 'more' from generate_series(3, 12) as n; grant select on t to public"
    )
    return found


def table(load: Merge | Append | Replace | Overwrite, **options: object) -> Table:
    return Table("t", load=load, key="id", max_quarantined=0.5, **options)  # type: ignore[arg-type]


LOADS = {
    "merge": table(Merge()),
    "merge with deletes": table(Merge(), deletes=True),
    "merge by time": table(Merge(), cursor=Timestamp("at")),
    "merge by sequence with deletes": table(Merge(), cursor=Sequence("id", lag=100), deletes=True),
    "append": table(Append(), cursor=Sequence("id", lag=100)),
    "replace": table(Replace()),
    "overwrite": table(Overwrite(by="day", every="month", last=1)),
}


async def compare(ends: TwoEnds, declared: Table, *, repair: bool = False) -> Reconciliation:
    source = Database("shop", connection="shop", tables=[declared])
    return await compare_table(ends.warehouse_address, ends.shop_address, source, declared, repair=repair)


def raw(ends: TwoEnds) -> Rows:
    return ends.raw("select id, note from raw_shop.t where _deleted_at is null and id <= 2 order by 1")


@pytest.mark.parametrize("way", chosen(LOADS, "merge with deletes", "append", "replace", "overwrite"))
async def test_all_copies_of_a_key_are_set_aside_and_the_result_says_so(ends: TwoEnds, way: str) -> None:
    declared = LOADS[way]
    for _ in range(3):
        counts = (await ends.load(declared)).counts
        assert counts.reconciliation == "duplicate"
        assert raw(ends) == [(2, "two")]
        assert ends.raw(OPEN) == [("one",), ("other",)]
        assert (counts.source_rows, counts.raw_rows, counts.quarantine_rows) == (13, 11, 2)
    compared = await compare(ends, declared)
    assert (compared.result, compared.duplicate, compared.agrees) == ("different", 1, False)


@pytest.mark.parametrize("way", chosen(LOADS, "merge by time", "append", "overwrite"))
async def test_the_newest_is_kept_if_declared(ends: TwoEnds, way: str) -> None:
    declared = replace(LOADS[way], on_duplicate="newest", cursor=LOADS[way].cursor and Timestamp("at", lag="1 day"))
    ends.source("update t set at = at + interval '1 min' where note = 'other'")
    for _ in range(3):
        counts = (await ends.load(declared)).counts
        assert counts.reconciliation == "duplicate"
        assert raw(ends) == [(1, "other"), (2, "two")]
        assert ends.raw(OPEN) == [("one",)]
        assert (counts.source_rows, counts.raw_rows, counts.quarantine_rows) == (13, 12, 1)
    assert (await compare(ends, declared)).result == "different"


@pytest.mark.parametrize("way", chosen(LOADS, "merge", "merge by sequence with deletes", "replace"))
async def test_copies_that_were_fixed_at_the_source_leave_quarantine(ends: TwoEnds, way: str) -> None:
    declared = LOADS[way]
    await ends.load(declared)
    ends.source("delete from t where note = 'other'; update t set at = now() where note = 'one'")
    for _ in range(3):
        last = (await ends.load(declared)).counts
    assert ends.raw(OPEN) == []
    assert raw(ends) == [(1, "one"), (2, "two")]
    assert last.reconciliation == "match"
    assert (await compare(ends, declared)).result == "match"


@pytest.mark.parametrize("way", chosen(LOADS, "merge by time", "append", "replace"))
async def test_a_copy_that_comes_later_is_noticed(ends: TwoEnds, way: str) -> None:
    """Alone in its read, it looks like a new version of the row that raw has."""
    declared = LOADS[way]
    ends.source("delete from t where note = 'other'")
    assert (await ends.load(declared)).counts.reconciliation == "match"
    ends.source("insert into t values (1, 'other', default, now())")
    results = [(await ends.load(declared)).counts.reconciliation for _ in range(3)]
    assert "match" not in results
    assert results[-1] == "duplicate"
    assert ends.raw(OPEN) == [("one",), ("other",)]


@pytest.mark.parametrize("way", chosen(LOADS, "merge with deletes", "merge by sequence with deletes", "overwrite"))
async def test_equal_copies_are_counted_one_by_one(ends: TwoEnds, way: str) -> None:
    declared = LOADS[way]
    ends.source("delete from t where note = 'other'; insert into t select * from t where id = 1")
    counts = (await ends.load(declared)).counts
    assert (counts.rows_quarantined, counts.quarantine_rows, counts.reconciliation) == (2, 2, "duplicate")
    again = (await ends.load(declared)).counts
    assert (again.quarantine_rows, again.reconciliation) == (2, "duplicate")


@pytest.mark.parametrize(("way", "reaction"), each_once(LOADS, ["newest", "quarantine"]))
async def test_thresholds_apply(ends: TwoEnds, way: str, reaction: Literal["newest", "quarantine"]) -> None:
    declared = replace(LOADS[way], max_quarantined=0, on_duplicate=reaction)
    with pytest.raises(DataRefused, match="key_not_unique") as refused:
        await ends.load(declared)
    assert not refused.value.retryable
    assert refused.value.__context__ is None, "PostgreSQL's error quotes the key"
    assert ends.raw("select to_regclass('raw_shop.t')") == [(None,)]
    ends.source("delete from t where note = 'other'")
    await ends.load(declared)
    ends.source("insert into t values (13, 'a', default, now()), (13, 'b', default, now())")
    with pytest.raises(DataRefused, match="key_not_unique"):
        await ends.load(declared)
    assert raw(ends) == [(1, "one"), (2, "two")]


async def test_a_copy_that_breaks_another_rule_is_still_a_copy(ends: TwoEnds) -> None:
    """Else it would leave first, and the other would pass as the only one."""
    for load in (Merge(), Replace()):
        declared = replace(table(load), rules=(Rule("no_other", "note <> 'other'"),))
        counts = (await ends.load(declared)).counts
        assert ends.raw(OPEN) == [("one",), ("other",)]
        assert counts.reconciliation == "duplicate"
        ends.raw("drop table raw_shop.t")


async def test_the_last_good_version_stays_in_raw(ends: TwoEnds) -> None:
    ends.source("delete from t where note = 'other'")
    declared = LOADS["replace"]
    await ends.load(declared)
    ends.source("insert into t values (1, 'other')")
    for _ in range(2):
        counts = (await ends.load(declared)).counts
        assert raw(ends) == [(1, "one"), (2, "two")]
        assert (counts.reconciliation, counts.source_rows) == ("duplicate", 13)
        assert counts.raw_rows == 12
        assert counts.quarantine_rows == 1, "raw has one of the two rows"


async def test_a_plan_warns_where_nothing_keeps_the_key_unique(ends: TwoEnds) -> None:
    declared = LOADS["merge"]
    (caution,) = await ends.cautions(declared)
    assert "no unique index on id" in caution
    ends.source("delete from t where note = 'other'")
    for index in ("(lower(note), id)", "(id) where id > 5", "(id, note)"):
        ends.source(f"create unique index on t {index}")
        assert await ends.cautions(declared), index
    ends.source("create unique index on t (id) include (note)")
    assert await ends.cautions(declared) == ()
    ends.source("create table heir () inherits (t)")
    assert await ends.cautions(declared), "the index of a table does not see the rows of its heirs"


def test_an_unknown_reaction_is_refused() -> None:
    with pytest.raises(DeclarationError, match="use one of quarantine, newest"):
        Table("t", load=Replace(), key="id", on_duplicate="drop")  # type: ignore[arg-type]
