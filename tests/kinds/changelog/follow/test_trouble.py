"""What following does when something is in its way: it waits, hands over, or leaves one table to an ordinary load."""

import asyncio

import psycopg
import pytest

from flows.declare import Budget, Rule
from flows.kinds.changelog.follow import loads, rounds
from flows.kinds.registry import kind_of
from flows.publish.budget import shared_budgets
from flows.values.errors import BudgetReached, ConfigurationError, LoadLocked
from flows.values.settings import settings
from tests.kinds.changelog.followed import catch_up, followed, following, until
from tests.kinds.changelog.log_ends import LogEnds, restart_source
from tests.kinds.changelog.test_changes import LONG, ROWS
from tests.publish.two_ends import run_sql

COLUMNS = "id bigint primary key, name text, amount int"


async def start(ends: LogEnds, *others: str, rows: int = 20) -> None:
    """Tables that have been loaded."""
    for name in ("items", *others):
        ends.create(name, COLUMNS)
        ends.source(ROWS.format(1, rows).replace("items", name))
    await ends.set_up()
    for name in ("items", *others):
        await ends.load(name)


# -- another load


async def test_commits_of_a_stretch_are_one_row_of_the_ledger(ends: LogEnds) -> None:
    await start(ends)
    async with followed(ends):
        for number in range(1, 6):
            ends.source(f"update items set amount = -{number} where id <= {number}")
            await until(ends.same)
    (row,) = ends.raw(
        "select count(*), sum(rows_read), sum(rows_updated), min(reconciliation) from ops.loads "
        "where strategy = 'follow'"
    )
    assert row == (1, 15, 15, "match")
    assert ends.raw("select sum(updates)::int, count(*) from ops.change_counts") == [(15, 1)]


async def test_a_second_run_that_follows_is_refused(ends: LogEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings(), "lock_wait_seconds", 0.3)
    await start(ends)
    async with followed(ends):
        ends.source("update items set amount = -1 where id = 1")
        await until(ends.same)
        other = following(ends)
        with pytest.raises(LoadLocked, match="another run follows the source"):
            await kind_of(other.source).follow(other)


async def test_an_ordinary_load_goes_in_between(ends: LogEnds) -> None:
    await start(ends)
    async with followed(ends):
        for number in range(1, 8):
            ends.source(f"update items set amount = -{number} where id = {number}")
            assert (await ends.load()).counts.reconciliation == "match"
            ends.source(f"delete from items where id = {number + 10}")
        await until(ends.same)
    assert ends.raw("select sum(updates)::int, sum(deletes)::int from ops.change_counts") == [(7, 7)]


async def test_both_ends_are_compared_while_changes_arrive(ends: LogEnds) -> None:
    await start(ends)
    async with followed(ends):
        for number in range(1, 6):
            ends.source(f"update items set amount = -{number}")
            assert (await ends.compare()).result == "match"


# -- a table alone


async def test_a_table_that_is_refused_holds_back_no_other(ends: LogEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loads, "_OTHER_SECONDS", (0.5, 1.0))
    await start(ends, "others")
    ends.redeclare("others", rules=(Rule("amount_not_negative", "amount >= 0"),))
    async with followed(ends) as given:
        ends.source("update others set amount = -1")
        await until(lambda: ends.raw("select count(*) from ops.loads where status = 'refused'")[0][0] > 0)
        ends.source("update items set amount = -1")
        await until(ends.same)
        assert not ends.same("others")
        assert given.progress.failing.keys() <= {"others"}
        ends.source("update others set amount = 1")
        await until(lambda: ends.same("others"))
        ends.source("update others set amount = 2 where id = 1")
        await until(lambda: ends.same("others") and not given.progress.failing)


async def test_a_table_that_keeps_too_much_of_the_log_is_given_up_and_compared_later(
    ends: LogEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loads, "_OTHER_SECONDS", (0.5, 1.0))
    monkeypatch.setattr(rounds, "_KEPT_FOR_OTHERS", 1)
    await start(ends, "others")
    ends.redeclare("others", rules=(Rule("amount_not_negative", "amount >= 0"),))
    held = "select cursor_value from ops.cursors where table_name = 'others'"
    async with followed(ends):
        ends.source("update others set amount = -1")
        await until(lambda: ends.raw("select count(*) from ops.loads where status = 'refused'")[0][0] > 0)
        ends.source("update items set amount = -1")
        await until(lambda: ends.raw(held) == [(None,)])
        assert any("no longer keeps the log" in told for told in ends.told)
        ends.source("update others set amount = 1")
        await until(lambda: ends.same("others"))
        await until(ends.same)
    assert ("reload",) in ends.raw(
        "select strategy from ops.loads where table_name = 'others' and status = 'published'"
    )


CHANGES = {
    "a column more": "alter table items add column note text",
    "a column more with a value": "alter table items add column note text default 'x'",
    "a column less": "alter table items drop column name",
    "a column renamed": "alter table items rename column name to title",
    "a wider type": "alter table items alter column amount type bigint",
    "rows rewritten": "alter table items alter column amount type int using amount + 1",
    "all rows gone": "truncate items",
    "another identity": "alter table items replica identity full",
    "another key's index": "alter table items drop constraint items_pkey, add primary key (id)",
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_changed_table_is_planned_again(ends: LogEnds, change: str) -> None:
    await start(ends)
    async with followed(ends):
        ends.source("update items set amount = -1 where id = 1")
        await until(ends.same)
        ends.source(f"begin; update items set amount = -2 where id = 2; {CHANGES[change]}; commit")
        ends.source("insert into items (id, amount) values (100, 100)")
        await until(ends.same)
        ends.source("update items set amount = 200 where id = 100")
        await until(ends.same)


async def test_values_stored_out_of_line_stay(ends: LogEnds) -> None:
    ends.create("items", "id bigint primary key, amount int, note text")
    ends.source(f"insert into items select n, n, {LONG} from generate_series(1, 5) as n")
    await ends.set_up()
    await ends.load()
    async with followed(ends):
        for number in range(3):
            ends.source(f"update items set amount = {number}; update items set id = id + 100 where id = {number + 1}")
            await until(ends.same)


async def test_a_long_transaction_is_committed_as_a_whole(ends: LogEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    """And many short ones in parts."""
    monkeypatch.setattr(rounds, "ROWS", 1_000)
    await start(ends, rows=3)
    ends.source(ROWS.format(1_000, 40_000))
    for number in range(30):
        ends.source(ROWS.format(100_000 + 1_000 * number, 100_999 + 1_000 * number))

    progress = await catch_up(ends)

    assert ends.same()
    assert progress.changes == 69_001
    assert 1 < progress.commits < 30


# -- an end that is away


@pytest.mark.parametrize("side", ["source", "warehouse"])
async def test_lost_sessions_are_opened_again(ends: LogEnds, side: str) -> None:
    await start(ends)
    at = ends.shop if side == "source" else ends.warehouse
    async with followed(ends) as given:
        for number in range(1, 4):
            ends.source(f"update items set amount = -{number}")
            await until(ends.same)
            run_sql(
                at.url("admin"),
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
                "and (application_name like 'medallion follow%' or application_name like 'medallion read%')",
            )
        ends.source("update items set amount = -9")
        await until(ends.same)
        assert any("waiting" in told for told in ends.told)
        assert given.progress.failing == {}
    assert ends.raw("select sum(updates)::int from ops.change_counts") == [(80,)]


async def test_it_waits_while_the_source_restarts(ends: LogEnds) -> None:
    await start(ends)
    async with followed(ends):
        ends.source("update items set amount = -1")
        await until(ends.same)
        restart_source()
        ends.source("update items set amount = -2")
        await until(ends.same)


async def test_a_slot_that_is_dropped_is_made_again_and_the_table_compared(ends: LogEnds) -> None:
    await start(ends)
    slot = (await ends.look()).names.slot
    async with followed(ends):
        ends.source("update items set amount = -1")
        await until(ends.same)
        ends.admin(f"select pg_drop_replication_slot('{slot}') from pg_replication_slots where slot_name = '{slot}'")
        ends.source("update items set amount = -2")
        await until(ends.same)


async def test_without_its_publication_it_ends_and_says_what_to_do(ends: LogEnds) -> None:
    await start(ends)
    given = following(ends)
    ends.admin(f"drop publication {(await ends.look()).names.publication}")
    with pytest.raises(ConfigurationError, match=r"publication .* does not exist"):
        await kind_of(given.source).follow(given)


async def test_a_budget_of_the_run_ends_it_at_a_commit(ends: LogEnds) -> None:
    await start(ends)
    ends.source("update items set amount = -1")
    given = following(ends)
    with shared_budgets(("the run", Budget(rows=25))):
        running = asyncio.create_task(kind_of(given.source).follow(given))
    await until(ends.same)
    ends.source("update items set amount = -2")
    with pytest.raises(BudgetReached):
        await running
    assert set(ends.live(columns="amount")) == {(-1,)}
    await catch_up(ends)
    assert ends.same()


async def test_it_stops_although_a_load_is_under_way(ends: LogEnds) -> None:
    """Which waits for a lock at the source that nobody gives it."""
    ends.create("items", COLUMNS)
    await ends.set_up()
    with psycopg.connect(ends.shop.url("app")) as other:
        other.execute("lock table items in access exclusive mode")
        async with followed(ends):
            await until(lambda: ends.raw("select count(*) from ops.loads where status = 'running'") == [(1,)])
    assert ends.raw("select status from ops.loads") == [("failed",)]


async def test_a_raw_table_that_is_locked_holds_back_no_other(ends: LogEnds) -> None:
    await start(ends, "others")
    async with followed(ends):
        with psycopg.connect(ends.warehouse.url("loader")) as other:
            other.execute("lock table raw_shop.others in access exclusive mode")
            ends.source("update others set amount = -1; update items set amount = -1")
            await until(ends.same)
            ends.source("update items set amount = -2")
            await until(ends.same)
        await until(lambda: ends.same("others"))
