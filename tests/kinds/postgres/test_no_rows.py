"""Loads from a cursor on to which no row comes: they stage nothing, and what they promise is the same."""

import pytest

from flows.declare import Append, Merge, Rule, Sequence, Timestamp
from flows.kinds.postgres import Table
from tests.conftest import TestDatabase
from tests.publish.two_ends import TwoEnds

TABLE = Table("prices", key="id", cursor=Timestamp("updated_at"), load=Merge(), deletes=True)
SEQUENCE = Table("prices", key="id", cursor=Sequence("id"), load=Append())
LANDED = "select to_regclass('landing.shop__prices') is not null"
ROWS = "create table prices (id integer primary key, v integer, updated_at timestamptz)"


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    two = TwoEnds(warehouse, shop)
    two.source(ROWS)
    two.source("insert into prices select n, n, now() - interval '1 day' from generate_series(1, 10) as n")
    return two


async def test_rows_deleted_at_the_source_are_marked(ends: TwoEnds) -> None:
    await ends.load(TABLE)
    ends.source("delete from prices where id = 3")
    found = await ends.load(TABLE)
    counts = found.counts
    assert (counts.rows_read, counts.rows_deleted, counts.reconciliation) == (0, 1, "match")
    assert ends.raw("select id from raw_shop.prices where _deleted_at is not null") == [(3,)]


@pytest.mark.parametrize("declared", [TABLE, SEQUENCE], ids=["merge", "append"])
async def test_a_row_that_raw_lacks_is_noticed(ends: TwoEnds, declared: Table) -> None:
    await ends.load(declared)
    assert (await ends.load(declared)).counts.reconciliation == "match"
    ends.raw("delete from raw_shop.prices where id = 3")
    counts = (await ends.load(declared)).counts
    assert (counts.rows_read, counts.reconciliation, counts.source_rows, counts.raw_rows) == (0, "missing", 10, 9)


async def test_a_new_column_is_added_to_raw(ends: TwoEnds) -> None:
    await ends.load(TABLE)
    ends.source("alter table prices add column note text")
    await ends.load(TABLE)
    assert ends.raw("select count(*) from raw_shop.prices where note is null") == [(10,)]


async def test_what_a_killed_load_has_landed_is_dropped(ends: TwoEnds) -> None:
    await ends.load(TABLE)
    ends.raw("create unlogged table landing.shop__prices (id integer)")
    assert (await ends.load(TABLE)).counts.rows_read == 0
    assert ends.raw(LANDED) == [(False,)]


async def test_quarantined_rows_stay_counted(ends: TwoEnds) -> None:
    declared = Table(
        "prices", key="id", cursor=Timestamp("updated_at"), load=Merge(), rules=(Rule("small", "v < 10"),),
        max_quarantined=0.5,
    )  # fmt: skip
    await ends.load(declared)
    counts = (await ends.load(declared)).counts
    assert (counts.raw_rows, counts.quarantine_rows, counts.reconciliation) == (9, 1, "match")


async def test_a_row_that_comes_is_landed_and_published(ends: TwoEnds) -> None:
    """The control: the first chunk of a read decides nothing but whether there is a row."""
    await ends.load(TABLE)
    ends.source("update prices set v = 99, updated_at = now() where id = 3")
    counts = (await ends.load(TABLE)).counts
    assert (counts.rows_read, counts.rows_updated, counts.reconciliation) == (1, 1, "match")
    assert ends.same("prices", "id, v, updated_at")
    assert ends.raw(LANDED) == [(False,)]
