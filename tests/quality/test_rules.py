"""The door: which rows break a rule, and when there are too many of them."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from asyncpg import Connection, Record

from flows.access.addresses import connect
from flows.declare import Merge, Replace, Rule
from flows.declare.rule import Tolerance
from flows.kinds.postgres import Table
from flows.quality.rules import door_rules, first_broken, judge, survey
from flows.values.connection import DatabaseConnection
from flows.values.errors import DataRefused, WarehouseError
from tests.conftest import TestDatabase
from tests.publish.two_ends import TwoEnds

POSITIVE = Rule("positive", "v >= 0")
SMALL = Rule("small", "v < 100")


@pytest.fixture
async def connection(warehouse: TestDatabase) -> AsyncIterator["Connection[Record]"]:
    async with connect(DatabaseConnection("warehouse", warehouse.url("loader")), side="warehouse") as opened:
        await opened.execute("create temporary table staged (id int, v int)")
        yield opened


async def test_a_null_satisfies_a_rule_as_it_does_a_check_constraint(connection: "Connection[Record]") -> None:
    await connection.execute("insert into staged values (1, null), (2, 1), (3, -1)")
    assert (await survey(connection, "staged", (POSITIVE,))).broken == {"positive": 1}


async def test_a_row_is_counted_under_the_first_rule_it_breaks(connection: "Connection[Record]") -> None:
    await connection.execute("insert into staged values (null, -1), (1, -1), (2, 200), (3, 5)")
    rules = door_rules(("id",), (POSITIVE, SMALL))
    assert (await survey(connection, "staged", rules)).broken == {"key_present": 1, "positive": 1, "small": 1}


async def test_without_rules_nothing_is_broken(connection: "Connection[Record]") -> None:
    assert (await survey(connection, "staged", ())).broken == {}
    assert await connection.fetchval(f"select {first_broken(())}") is None


async def test_every_key_column_must_be_present(connection: "Connection[Record]") -> None:
    await connection.execute("insert into staged values (1, null), (null, 1), (1, 1)")
    assert (await survey(connection, "staged", door_rules(("id", "v"), ()))).broken == {"key_present": 2}


def test_a_declared_key_and_a_required_cursor_are_rules_of_every_table() -> None:
    names = [rule.name for rule in door_rules(("id",), (POSITIVE,), "updated_at")]
    assert names == ["key_present", "cursor_present", "positive"]
    assert door_rules((), ()) == ()


@pytest.mark.parametrize(
    ("broken", "rows", "share", "floor", "stops"),
    [
        (0, 100, 0.0, 5, False),
        (1, 100, 0.0, 5, True),  # who tolerates none has no floor
        (2, 100, 0.01, 5, False),  # once two bad rows in a window of a hundred stopped the table
        (5, 100, 0.01, 5, False),
        (6, 100, 0.01, 5, True),
        (1, 5, 0.01, 5, False),  # a quarter of a small read, and at least one row
        (2, 5, 0.01, 5, True),
        (3, 12, 0.01, 5, False),
        (4, 12, 0.01, 5, True),
        (1, 100, 0.01, 0, False),  # by the share alone
        (2, 100, 0.01, 0, True),
        (1, 5, 0.01, 0, True),
        (10, 1000, 0.01, 5, False),  # the share, where it allows more
        (11, 1000, 0.01, 5, True),
        (5, 5, 1.0, 5, False),
    ],
)
def test_the_load_stops_above_its_share_and_in_a_small_read_above_its_floor(
    broken: int, rows: int, share: float, floor: int, stops: bool
) -> None:
    def judged() -> None:
        tolerance = Tolerance(share, floor)
        judge({"positive": broken} if broken else {}, rows, tolerance, where="shop.t", landing="landing.t")

    if not stops:
        judged()
        return
    with pytest.raises(DataRefused) as refusal:
        judged()
    assert f"{broken} of {rows} rows break a rule (positive: {broken})" in refusal.value.what
    assert "landing.t" in refusal.value.fix
    assert refusal.value.exit_code == 1


def test_rows_that_were_judged_before_are_not_judged_again() -> None:
    judge({"positive": 3}, 3, Tolerance(0.01), where="shop.t", landing="landing.t", known=3)
    with pytest.raises(DataRefused):
        judge({"positive": 3}, 3, Tolerance(0.0), where="shop.t", landing="landing.t", known=2)


async def test_the_declared_floor_decides_over_a_small_window(warehouse: TestDatabase, shop: TestDatabase) -> None:
    """On real loads: the same window of a hundred rows, two of them bad, with the floor and by the share alone."""
    ends = TwoEnds(warehouse, shop)
    ends.source(
        "create table t (id int primary key, v int); insert into t select i, i - 3 from generate_series(1, 100) i"
    )
    strict = Table("t", key="id", load=Merge(), rules=(POSITIVE,), max_quarantined=0.01, quarantine_floor=0)
    with pytest.raises(DataRefused, match=r"2 of 100 rows break a rule .*, 1 are tolerated"):
        await ends.load(strict)
    await ends.load(replace(strict, quarantine_floor=5))
    assert ends.raw("select count(*) from raw_shop.t") == [(98,)]
    assert ends.raw("select count(*) from quarantine.rows") == [(2,)]


async def test_a_refused_load_publishes_nothing_and_leaves_its_rows_to_look_at(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    ends = TwoEnds(warehouse, shop)
    ends.source(
        "create table t (id int primary key, v int); insert into t select i, i - 6 from generate_series(1, 10) i"
    )
    table = Table("t", key="id", load=Merge(), rules=(POSITIVE,), max_quarantined=0.4)
    with pytest.raises(DataRefused, match="5 of 10 rows break a rule"):
        await ends.load(table)
    assert ends.raw("select to_regclass('raw_shop.t')") == [(None,)]
    assert ends.raw("select count(*) from quarantine.rows") == [(0,)]
    assert ends.raw("select count(*) from ops.cursors") == [(0,)]
    assert ends.raw("select status, rows_read from ops.loads") == [("refused", 10)]
    assert ends.raw("select count(*) from landing.shop__t where v < 0") == [(5,)]


async def test_a_rule_about_a_column_that_is_not_there_stops_the_load(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    """A misspelt rule that everything passes would be worse than none."""
    with pytest.raises(WarehouseError, match='column "quantty" does not exist'):
        await TwoEnds(warehouse, shop).load(
            Table("basket_items", load=Replace(), rules=(Rule("quantity", "quantty >= 0"),))
        )


async def test_a_rule_may_end_in_a_comment_and_hold_any_character(connection: "Connection[Record]") -> None:
    await connection.execute("insert into staged values (1, -1)")
    rules = (Rule("odd", "v::text <> '-1 it''s \"é\" %s $1' and v >= 0 -- below zero is a return"),)
    assert (await survey(connection, "staged", rules)).broken == {"odd": 1}
