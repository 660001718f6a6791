"""Loads with a budget: where they stop, what they keep, and what is said of their tables meanwhile."""

import asyncio

import pytest

from flows.declare import Append, Budget, Merge, Replace, Sequence, Timestamp
from flows.kinds.postgres import Database, Table
from flows.publish.budget import shared_budgets
from flows.values.errors import ConfigurationError, DeclarationError, OverBudget
from flows.verbs.compare import compare_table
from tests.conftest import TestDatabase
from tests.kinds.loading import setting
from tests.publish.two_ends import TwoEnds

FOLLOWED = Table("t", key="id", cursor=Timestamp("at"), load=Merge())
OPEN = "select name || ' ' || subject || ' ' || severity from ops.alerts where resolved_at is null order by 1"


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    two = TwoEnds(warehouse, shop)
    two.source("create table t (id bigint primary key, v text, at timestamptz not null default clock_timestamp())")
    two.source("create index on t (at)")
    return two


def fill(ends: TwoEnds, first: int, last: int) -> None:
    """Rows written long ago, in the order of their ids."""
    ends.source(
        "insert into t select n, 'v' || n, timestamptz '2020-01-01' + n * interval '1 min' "
        f"from generate_series({first}, {last}) as n"
    )


async def loaded(ends: TwoEnds) -> None:
    """Ten rows loaded then; no load has looked since."""
    fill(ends, 1, 10)
    await ends.load(FOLLOWED)
    ends.raw("update ops.cursors set cursor_value = '2020-01-01 01:00:00+00'")


def within(table: Table, **budget: object) -> Table:
    return Table(table.name, key=table.key, cursor=table.cursor, load=table.load, budget=Budget(**budget))  # type: ignore[arg-type]


async def test_a_catch_up_stops_after_a_published_window_and_its_cursor_is_there(ends: TwoEnds) -> None:
    await loaded(ends)
    fill(ends, 1001, 2000)

    result = await ends.load(within(FOLLOWED, rows=300))

    assert result.stopped is not None
    assert 200 < result.counts.rows_read <= 300
    assert "of about" in result.stopped
    ((in_raw, newest, cursor),) = ends.raw(
        "select count(*), max(at)::text, (select cursor_value from ops.cursors where table_name = 't') from raw_shop.t"
    )
    assert in_raw > 210
    assert newest == cursor
    assert f"goes on from {cursor}" in result.stopped


async def test_a_first_load_keeps_its_chunks_when_the_budget_is_taken_away(ends: TwoEnds) -> None:
    """A small table would be read in one statement otherwise, and all of it again."""
    fill(ends, 1, 1000)
    ends.source("analyze t")
    assert (await ends.load(within(FOLLOWED, rows=400))).stopped
    ((chunks,),) = ends.raw("select count(*) from ops.chunks")

    result = await ends.load(FOLLOWED)

    assert (result.stopped, result.counts.rows_read, result.counts.reconciliation) == (None, 1000, "match")
    assert result.chunks > chunks > 0
    assert ends.raw("select count(*) from ops.chunks where attempt = 1") == [(chunks,)]
    assert ends.same("t", "id, v")


async def test_rows_that_came_just_now_are_left_to_the_next_load_if_they_exceed_the_budget(ends: TwoEnds) -> None:
    """No bound below which nothing new can appear divides them yet."""
    await loaded(ends)
    ends.source("insert into t select n, 'v', clock_timestamp() from generate_series(3001, 4000) as n")

    result = await ends.load(within(FOLLOWED, rows=100))

    assert result.stopped is not None
    assert result.counts.rows_read <= 100
    assert "goes on from" in result.stopped
    await ends.load(FOLLOWED)
    assert ends.same("t", "id, v")


async def test_a_table_that_never_catches_up_is_an_alert_of_low_severity_until_it_does(ends: TwoEnds) -> None:
    await loaded(ends)
    fill(ends, 1001, 2000)
    for _ in range(2):
        assert (await ends.load(within(FOLLOWED, rows=100))).stopped
    assert ends.raw(OPEN) == []
    assert (await ends.load(within(FOLLOWED, rows=100))).stopped
    assert ends.raw(OPEN) == [("budget reached shop.t info",)]

    assert (await ends.load(FOLLOWED)).stopped is None

    assert ends.raw(OPEN) == []
    assert ends.same("t", "id, v")


async def test_it_never_passes_for_equal_while_its_load_stopped_at_a_budget(ends: TwoEnds) -> None:
    """Also if what was read agrees: rows beyond it are pending, and no difference."""
    await loaded(ends)
    fill(ends, 1001, 2000)
    await ends.load(within(FOLLOWED, rows=100))
    source = Database("shop", connection="shop", tables=[FOLLOWED])

    compared = await compare_table(ends.warehouse_address, ends.shop_address, source, FOLLOWED)

    assert compared.result == "not_compared"
    assert "stopped at its budget" in str(compared.note)
    assert compared.pending > 0
    assert ends.raw("select count(*) from ops.loads where reconciliation = 'match' and batch_id > 1") == [(0,)]
    await ends.load(FOLLOWED)
    assert (await compare_table(ends.warehouse_address, ends.shop_address, source, FOLLOWED)).result == "match"


async def test_a_part_does_not_make_a_table_fresh(ends: TwoEnds) -> None:
    from flows.render.freshness import last_load

    await loaded(ends)
    whole = ends.raw(last_load("shop", "t"))
    fill(ends, 1001, 2000)
    await ends.load(within(FOLLOWED, rows=100))

    assert ends.raw(last_load("shop", "t")) == whole


async def test_appended_rows_without_a_key_are_read_once_each(ends: TwoEnds) -> None:
    fill(ends, 1, 500)
    events = Table("t", cursor=Sequence("id"), load=Append())
    for _ in range(12):
        result = await ends.load(within(events, rows=120))
        if result.stopped is None:
            break
    fill(ends, 501, 900)
    for _ in range(12):
        result = await ends.load(within(events, rows=120))
        if result.stopped is None:
            break

    assert ends.raw("select count(*), count(distinct id) from raw_shop.t") == [(900, 900)]
    assert result.counts.reconciliation == "match"


async def test_a_read_in_one_statement_is_refused_before_it_begins(ends: TwoEnds) -> None:
    """A view has no index, so that its read cannot be divided. A small one that the planner overestimates is read."""
    ends.source("create view w as select * from t")
    ends.source("grant select on w to public")
    view = Table("w", key="id", load=Replace())
    fill(ends, 1, 50)

    with pytest.raises(OverBudget, match="more than its budget of 49 rows"):
        await ends.load(within(view, rows=49))
    assert ends.raw("select to_regclass('raw_shop.w'), to_regclass('landing.shop__w')") == [(None, None)]
    assert (await ends.load(within(view, rows=50))).counts.reconciliation == "match"


async def test_loads_in_parallel_reserve_what_they_need_of_a_shared_budget(ends: TwoEnds) -> None:
    fill(ends, 1, 50)
    for name in ("w1", "w2", "w3"):
        ends.source(f"create view {name} as select * from t")
        ends.source(f"grant select on {name} to public")

    with shared_budgets(("the run", Budget(rows=120))):
        done = await asyncio.gather(*(ends.load(Table(name, key="id", load=Replace())) for name in ("w1", "w2", "w3")))

    assert sorted(result.counts.rows_read for result in done) == [0, 50, 50]
    (left_out,) = [result.stopped for result in done if result.stopped]
    assert "not read: too little is left of the budget of the run" in str(left_out)


async def test_bytes_and_money_are_budgets_too(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    await loaded(ends)
    fill(ends, 1001, 3000)

    by_size = await ends.load(within(FOLLOWED, bytes="20 kB"))
    assert "budget of 20.0 kB" in str(by_size.stopped)
    assert 0 < by_size.counts.bytes < 24_000

    with pytest.raises(ConfigurationError, match="no price is set"):
        await ends.load(within(FOLLOWED, money=1))
    with setting(price_per_gb=100_000.0):
        by_cost = await ends.load(within(FOLLOWED, money=1))
    assert "budget of 1.00 EUR" in str(by_cost.stopped)
    assert 0 < by_cost.counts.bytes < 12_000


async def test_time_is_a_budget_of_loads_that_can_be_divided(ends: TwoEnds) -> None:
    await loaded(ends)
    fill(ends, 1001, 3000)

    with setting(chunk_min_mb=0.005, chunk_max_mb=0.005):
        result = await ends.load(within(FOLLOWED, minutes=0.005))

    assert "budget of 0.005 min" in str(result.stopped)
    assert result.counts.rows_read > 0


@pytest.mark.parametrize(
    "wrong", [{}, {"rows": 0}, {"rows": 1.5}, {"bytes": "ten"}, {"minutes": -1}, {"money": float("nan")}]
)
def test_a_budget_that_limits_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DeclarationError):
        Budget(**wrong)  # type: ignore[arg-type]
