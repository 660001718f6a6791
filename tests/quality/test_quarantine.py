"""Rows refused at the door: kept whole, once, with the reason, until a good version comes or they are gone."""

from typing import Any

import pytest

from flows.declare import Append, Merge, Replace, Rule, Sequence, Timestamp
from flows.kinds.postgres import Table
from tests.conftest import TestDatabase
from tests.publish.two_ends import Rows, TwoEnds

RULES = (Rule("positive", "v >= 0"), Rule("small", "v < 100"))
MERGE = Table("t", key="id", load=Merge(), deletes=True, rules=RULES, max_quarantined=0.5)
BY_CURSOR = Table(
    "t", key="id", load=Merge(), cursor=Timestamp("at", lag="10 min"), deletes=True, rules=RULES, max_quarantined=0.01
)
REPLACE = Table("t", key="id", load=Replace(), rules=RULES, max_quarantined=0.5)
KEYLESS = Table("t", load=Replace(), rules=RULES, max_quarantined=0.5)


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    two = TwoEnds(warehouse, shop)
    two.source(
        "create table t (id int primary key, v int, note text, at timestamptz not null default now());"
        "insert into t select i, i, 'good', now() - interval '1 day' from generate_series(1, 10) as i"
    )
    return two


def quarantined(ends: TwoEnds, columns: str = "row_key ->> 'id', rule, row_data ->> 'v'") -> Rows:
    return ends.raw(f"select {columns} from quarantine.rows where resolved_at is null order by quarantine_id")


def resolutions(ends: TwoEnds) -> Rows:
    return ends.raw(
        "select row_key ->> 'id', row_data ->> 'v', resolution from quarantine.rows "
        "where resolved_at is not null order by quarantine_id"
    )


@pytest.mark.parametrize("table", [MERGE, REPLACE], ids=["merge", "replace"])
async def test_a_bad_row_is_kept_whole_with_its_reason_and_the_others_go_on(ends: TwoEnds, table: Table) -> None:
    note = """it's "quoted" \\ $1 %s\n\té😀 {"a": null}"""
    ends.source("insert into t values (11, -1, %s), (12, 100, null)", [note])
    result = await ends.load(table)
    assert (result.counts.rows_quarantined, result.counts.rows_inserted) == (2, 10)
    assert (result.counts.source_rows, result.counts.raw_rows, result.counts.quarantine_rows) == (12, 10, 2)
    assert result.counts.reconciliation == "match"
    assert quarantined(ends) == [("11", "positive", "-1"), ("12", "small", "100")]
    kept: Any = ends.raw("select row_data, batch_id, source_system, table_name from quarantine.rows")[0]
    assert set(kept[0]) == {"id", "v", "note", "at"}
    assert kept[0]["note"] == note
    assert kept[1:] == (result.batch_id, "shop", "t")


@pytest.mark.parametrize("table", [MERGE, REPLACE, KEYLESS], ids=["merge", "replace", "keyless"])
async def test_a_bad_row_read_again_stands_there_once(ends: TwoEnds, table: Table) -> None:
    ends.source("insert into t values (11, -1)")
    await ends.load(table)
    before = quarantined(ends, "*")
    result = await ends.load(table)
    assert quarantined(ends, "*") == before
    assert (result.counts.rows_quarantined, result.counts.changed) == (1, 0)
    assert result.counts.reconciliation == "match"
    assert resolutions(ends) == []


async def test_a_read_that_meets_little_but_known_bad_rows_goes_on(ends: TwoEnds) -> None:
    """Where two reads overlap, the second may hold only the bad rows of the first: by share it would be refused, by
    the same cursor, for ever."""
    ends.source("insert into t select i, 1, '', now() - interval '1 day' from generate_series(100, 500) as i")
    ends.source("insert into t values (11, -1), (12, -1), (13, 100)")
    await ends.load(BY_CURSOR)
    result = await ends.load(BY_CURSOR)
    assert (result.counts.rows_read, result.counts.rows_quarantined) == (3, 3)
    assert result.counts.reconciliation == "match"


@pytest.mark.parametrize("table", [MERGE, REPLACE], ids=["merge", "replace"])
async def test_a_row_mended_at_the_source_leaves_quarantine(ends: TwoEnds, table: Table) -> None:
    ends.source("insert into t values (11, -1)")
    await ends.load(table)
    ends.source("update t set v = 1 where id = 11")
    result = await ends.load(table)
    assert quarantined(ends) == []
    assert resolutions(ends) == [("11", "-1", "fixed at the source")]
    assert (result.counts.rows_inserted, result.counts.reconciliation) == (1, "match")
    assert ends.same("t", "id, v")


@pytest.mark.parametrize("table", [MERGE, REPLACE, BY_CURSOR], ids=["merge", "replace", "by cursor"])
async def test_a_row_deleted_at_the_source_leaves_quarantine(ends: TwoEnds, table: Table) -> None:
    ends.source("insert into t values (11, -1)")
    await ends.load(table)
    ends.source("delete from t where id = 11")
    result = await ends.load(table)
    assert quarantined(ends) == []
    assert resolutions(ends) == [("11", "-1", "deleted at the source")]
    assert (result.counts.rows_deleted, result.counts.reconciliation) == (0, "match")


async def test_without_a_key_a_row_leaves_quarantine_when_it_does_not_come_again(ends: TwoEnds) -> None:
    ends.source("insert into t values (11, -1), (12, -2)")
    await ends.load(KEYLESS)
    ends.source("update t set v = 1 where id = 11")
    result = await ends.load(KEYLESS)
    assert quarantined(ends, "row_key, row_data ->> 'v'") == [(None, "-2")]
    assert result.counts.reconciliation == "match"


async def test_a_bad_row_that_changed_takes_the_place_of_its_older_version(ends: TwoEnds) -> None:
    ends.source("insert into t values (11, -1)")
    await ends.load(MERGE)
    for value, rule in ((-2, "positive"), (100, "small"), (-1, "positive")):
        ends.source("update t set v = %s where id = 11", [value])
        await ends.load(MERGE)
        assert quarantined(ends) == [("11", rule, str(value))]
    assert [row[2] for row in resolutions(ends)] == ["superseded"] * 3


async def test_a_good_row_that_turned_bad_keeps_its_last_good_version_in_raw(ends: TwoEnds) -> None:
    await ends.load(MERGE)
    ends.source("update t set v = -5 where id = 5")
    result = await ends.load(MERGE)
    assert ends.raw("select v, _deleted_at from raw_shop.t where id = 5") == [(5, None)]
    assert quarantined(ends) == [("5", "positive", "-5")]
    assert (result.counts.raw_rows, result.counts.quarantine_rows) == (10, 0)
    assert result.counts.reconciliation == "match"
    ends.source("delete from t where id = 5")
    result = await ends.load(MERGE)
    assert (result.counts.rows_deleted, result.counts.reconciliation) == (1, "match")
    assert quarantined(ends) == []


async def test_a_replaced_row_that_turned_bad_keeps_its_last_good_version_in_raw(ends: TwoEnds) -> None:
    """As with a merge: the row is still there at the source, only its new version is refused."""
    await ends.load(REPLACE)
    ends.source("update t set v = -5 where id = 5; delete from t where id = 6")
    for deleted in (1, 0):
        result = await ends.load(REPLACE)
        assert (result.counts.rows_deleted, result.counts.reconciliation) == (deleted, "match")
        assert (result.counts.raw_rows, result.counts.quarantine_rows) == (9, 0)
        assert ends.raw("select id, v from raw_shop.t where id in (5, 6)") == [(5, 5)]
        assert quarantined(ends) == [("5", "positive", "-5")]
    ends.source("delete from t where id = 5")
    result = await ends.load(REPLACE)
    assert (result.counts.rows_deleted, result.counts.reconciliation) == (1, "match")
    assert quarantined(ends) == []


async def test_bad_rows_of_an_append_are_quarantined_and_counted(ends: TwoEnds) -> None:
    table = Table("t", key="id", load=Append(), cursor=Sequence("id"), rules=RULES, max_quarantined=1)
    await ends.load(table)
    ends.source("insert into t values (11, -1), (12, 12)")
    result = await ends.load(table)
    assert (result.counts.rows_inserted, result.counts.rows_quarantined) == (1, 1)
    assert result.counts.reconciliation == "match"


async def test_each_of_several_equal_bad_rows_of_a_table_without_a_key_counts(ends: TwoEnds) -> None:
    """The source counts each, so quarantine holds each: one for all would look like rows missing in raw, for ever."""
    ends.source("alter table t drop constraint t_pkey")
    ends.source("insert into t select 11, -1, '', '2024-01-01' from generate_series(1, 3)")
    for _ in range(2):
        result = await ends.load(KEYLESS)
        assert (result.counts.rows_quarantined, result.counts.quarantine_rows) == (3, 3)
        assert result.counts.reconciliation == "match"
    ends.source("delete from t where ctid = (select max(ctid) from t where id = 11)")
    result = await ends.load(KEYLESS)
    assert (len(quarantined(ends)), result.counts.reconciliation) == (2, "match")


async def test_a_column_may_have_the_name_of_anything_in_our_queries(ends: TwoEnds) -> None:
    """`to_jsonb(l)` means a column `l` where there is one, and only then the row."""
    names = ["k", "q", "r", "l", "j", "s", "h", "u", "whole", "rule", "row_data", "row_key", "row_hash"]
    columns = ", ".join(f"{name} text not null default 'a'" for name in names)
    ends.source(f"create table odd (id int, v int, {columns})")
    ends.source("insert into odd select i, i from generate_series(1, 10) as i; insert into odd values (11, -1)")
    tables = (
        Table("odd", key="id", load=Merge(), deletes=True, rules=RULES, max_quarantined=0.5),
        Table("odd", key="id", load=Replace(), rules=RULES, max_quarantined=0.5),
        Table("odd", load=Replace(), rules=RULES, max_quarantined=0.5),
    )
    for place, table in enumerate(tables):
        for _ in range(2):
            assert (await ends.load(table, f"shop{place}")).counts.reconciliation == "match"
        assert len(quarantined(ends)) == place + 1
    for kept in ends.raw("select row_data from quarantine.rows where resolved_at is null"):
        assert kept[0] == {"id": 11, "v": -1} | dict.fromkeys(names, "a")
    ends.source("delete from odd where id in (5, 11)")
    for place, table in enumerate(tables):
        assert (await ends.load(table, f"shop{place}")).counts.reconciliation == "match"
    assert quarantined(ends) == []


@pytest.mark.parametrize("key", ["id", ()], ids=["key", "keyless"])
async def test_json_that_jsonb_cannot_hold_does_not_block_the_table(ends: TwoEnds, key: str | tuple[str, ...]) -> None:
    """json is text that was only looked at: it may hold \\u0000 and numbers beyond numeric. Good rows may, too."""
    ends.source("create table docs (id int, v int, doc json, docs json[])")
    document = r'{"a": "\u0000", "a": 1e999999,  "b": "\ud800"}'
    ends.source("insert into docs values (1, 1, %(d)s, array[%(d)s::json]), (2, -1, %(d)s, array[%(d)s::json, null]),"
                " (3, -2, null, null)", {"d": document})  # fmt: skip
    table = Table("docs", key=key, load=Replace(), rules=RULES, max_quarantined=1)
    for _ in range(2):
        result = await ends.load(table)
        assert (result.counts.rows_quarantined, result.counts.reconciliation) == (2, "match")
    assert quarantined(ends, "row_data") == [
        ({"id": 2, "v": -1, "doc": document, "docs": [document, None]},),
        ({"id": 3, "v": -2, "doc": None, "docs": None},),
    ]


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        ("text", 'it\'s "odd" é 😀 \\'),
        ("timestamptz", "infinity"),
        ("timestamptz", "0044-03-15 00:00:00.000001+00 BC"),
        ("numeric", "NaN"),
        ("numeric(10,3)", "1.500"),
        ("double precision", "-Infinity"),
        ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("bytea", "\\x00ff"),
        ("date", "-infinity"),
        ("interval", "1 mon 2 days"),
        ("boolean", "false"),
        ("mood", "sad"),
        ("character(5)", "ab"),
    ],
)
async def test_a_bad_row_is_found_again_by_a_key_of_any_type(ends: TwoEnds, kind: str, bad: str) -> None:
    """Quarantine keeps the key as JSON: on its way there and back it must stay the same key."""
    ends.source("create type mood as enum ('sad', 'happy')")
    ends.source(f"create table k (k {kind} primary key, v int)")
    ends.source(f"insert into k values (%s::{kind}, -1)", [bad])
    table = Table("k", key="k", load=Merge(), deletes=True, rules=RULES, max_quarantined=1)
    assert (await ends.load(table)).counts.reconciliation == "match"
    ends.source("update k set v = 1")
    assert (await ends.load(table)).counts.reconciliation == "match"
    assert [row[2] for row in resolutions(ends)] == ["fixed at the source"]
    ends.source("update k set v = -1")
    await ends.load(table)
    ends.source("delete from k")
    assert (await ends.load(table)).counts.reconciliation == "match"
    assert [row[2] for row in resolutions(ends)] == ["fixed at the source", "deleted at the source"]


async def test_keys_of_several_columns_are_matched_whole(ends: TwoEnds) -> None:
    ends.source("create table p (a int, b text, v int, primary key (a, b))")
    ends.source("insert into p values (1, 'x', -1), (1, 'y', -1), (2, 'x', 1)")
    table = Table("p", key=("a", "b"), load=Merge(), deletes=True, rules=RULES, max_quarantined=1)
    assert (await ends.load(table)).counts.reconciliation == "match"
    ends.source("update p set v = 1 where b = 'x'; delete from p where b = 'y'")
    assert (await ends.load(table)).counts.reconciliation == "match"
    told = ends.raw("select row_key, resolution from quarantine.rows order by quarantine_id")
    assert told == [({"a": 1, "b": "x"}, "fixed at the source"), ({"a": 1, "b": "y"}, "deleted at the source")]


async def test_two_tables_do_not_resolve_each_others_rows(ends: TwoEnds) -> None:
    ends.source("create table u as table t; update u set v = -1 where id = 1; update t set v = -1 where id = 1")
    other = Table("u", key="id", load=Merge(), deletes=True, rules=RULES, max_quarantined=0.5)
    await ends.load(MERGE)
    await ends.load(other)
    ends.source("update t set v = 1 where id = 1")
    await ends.load(MERGE)
    assert quarantined(ends, "table_name") == [("u",)]
