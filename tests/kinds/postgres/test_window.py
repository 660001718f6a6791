"""Cursors lose no row, whatever other sessions at the source hold open while it is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from flows.access.addresses import connect
from flows.declare import Append, Merge, Sequence, Timestamp
from flows.kinds.postgres import Table
from flows.kinds.postgres import window as windows
from flows.kinds.postgres.table import describe
from flows.kinds.postgres.window import Horizon, look
from flows.values.connection import DatabaseConnection
from flows.values.plan import CursorState, Window
from tests.conftest import TestDatabase
from tests.nightly import each_once
from tests.publish.two_ends import TwoEnds

PRICES = Table("prices", key="id", cursor=Timestamp("updated_at"), load=Merge())
LOG = Table("log", key="id", cursor=Sequence("id"), load=Append())
KEYLESS_LOG = Table("log", cursor=Sequence("id"), load=Append())


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    two = TwoEnds(warehouse, shop)
    two.source(
        "create table prices (id int primary key, price int, updated_at timestamptz default now());"
        "insert into prices select i, i, now() - i * interval '1 hour' from generate_series(1, 10) as i;"
        "create table log (id bigint generated always as identity primary key, note text);"
        "insert into log (note) select 'note ' || i from generate_series(1, 10) as i"
    )
    return two


@contextmanager
def open_transaction(ends: TwoEnds) -> Iterator[psycopg.Connection]:
    """A session at the source whose transaction has begun."""
    with psycopg.connect(ends.shop.url("app")) as session:
        session.execute("select 1")
        yield session


async def window_of(ends: TwoEnds, table: Table, state: CursorState, role: str = "extractor") -> Window:
    async with connect(DatabaseConnection("shop", ends.shop.url(role)), side="source") as origin:
        shape = await describe(origin, "shop", "raw_shop", table)
        return await windows.window(origin, table, shape, state)


async def horizon_of(ends: TwoEnds, role: str = "extractor") -> Horizon:
    async with connect(DatabaseConnection("shop", ends.shop.url(role)), side="source") as origin:
        return await look(origin)


def ids(ends: TwoEnds, table: str) -> list[int]:
    return [row[0] for row in ends.raw(f"select id from raw_shop.{table} where _deleted_at is null order by id")]


def cursor(ends: TwoEnds) -> Any:
    return ends.raw("select cursor_value from ops.cursors")[0][0]


async def test_a_transaction_that_began_between_two_looks_is_seen_by_the_second(ends: TwoEnds) -> None:
    """Both in one transaction, which shows the same sessions all along if it is not told to look again."""
    address = DatabaseConnection("shop", ends.shop.url("extractor"))
    async with connect(address, side="source") as origin, origin.transaction(isolation="read_committed"):
        first = await look(origin)
        with open_transaction(ends):
            second = await look(origin)
    assert second.oldest is not None
    assert first.now < second.oldest
    assert first.oldest is None


async def test_a_row_stamped_early_and_committed_late_is_not_lost(ends: TwoEnds) -> None:
    with open_transaction(ends) as late:
        late.execute("insert into prices values (99, 99)")
        ends.source("insert into prices values (50, 50)")
        await ends.load(PRICES)
        assert 99 not in ids(ends, "prices")
        late.commit()
    await ends.load(PRICES)
    assert {50, 99} <= set(ids(ends, "prices"))


async def test_without_the_horizon_that_row_would_be_lost(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test above: with plain now() for a bound, the cursor steps over the open transaction."""

    async def plain_now(connection: Any, now: datetime | None = None) -> Horizon:
        return Horizon(now or await connection.fetchval("select clock_timestamp()"), None, False, None)

    monkeypatch.setattr(windows, "look", plain_now)
    monkeypatch.setattr(windows, "_GUARD", timedelta(0))
    with open_transaction(ends) as late:
        late.execute("insert into prices values (99, 99)")
        ends.source("insert into prices values (50, 50)")
        await ends.load(PRICES)
        late.commit()
    result = await ends.load(PRICES)
    assert 99 not in ids(ends, "prices")
    # What no cursor can find, such as a row stamped by an application's clock, the comparison of keys does.
    assert result.counts.reconciliation == "missing"
    assert (await ends.load(PRICES)).strategy == "reload"
    assert 99 in ids(ends, "prices")


async def test_a_transaction_open_for_hours_delays_no_row_and_holds_the_cursor(ends: TwoEnds) -> None:
    await ends.load(PRICES)
    with open_transaction(ends) as late:
        began = datetime.now(UTC)
        for price in (50, 51):
            ends.source("insert into prices values (%s, 0)", [price])
            await ends.load(PRICES)
            assert price in ids(ends, "prices")
            assert datetime.fromisoformat(cursor(ends)) < began
        late.rollback()
    await ends.load(PRICES)
    assert datetime.fromisoformat(cursor(ends)) > began - timedelta(seconds=1)


async def test_a_prepared_transaction_holds_the_cursor(ends: TwoEnds) -> None:
    """It has no session, so nothing says when it began; it may commit days later."""
    await ends.load(PRICES)
    before = cursor(ends)
    with psycopg.connect(ends.shop.url("app"), autocommit=True) as session:
        name = f"late-{ends.shop.name}"
        session.execute("begin; insert into prices values (99, 99)")
        session.execute(f"prepare transaction '{name}'")
        try:
            ends.source("insert into prices values (50, 50)")
            result = await ends.load(PRICES)
            assert 50 in ids(ends, "prices")
            assert cursor(ends) == before
            assert result.upper == before
        finally:
            session.execute(f"commit prepared '{name}'")
    await ends.load(PRICES)
    assert 99 in ids(ends, "prices")
    assert cursor(ends) > before


async def test_a_prepared_transaction_holds_a_sequence_too(ends: TwoEnds) -> None:
    await ends.load(KEYLESS_LOG)
    with psycopg.connect(ends.shop.url("app"), autocommit=True) as session:
        name = f"late-{ends.shop.name}"
        session.execute("begin; insert into log (note) values ('prepared')")
        session.execute(f"prepare transaction '{name}'")
        try:
            ends.source("insert into log (note) values ('after it')")
            for _ in range(2):
                await ends.load(KEYLESS_LOG)
                assert ids(ends, "log") == list(range(1, 11))
        finally:
            session.execute(f"commit prepared '{name}'")
    await ends.load(KEYLESS_LOG)
    assert ids(ends, "log") == list(range(1, 13))


async def test_an_id_committed_after_a_higher_one_is_read_later(ends: TwoEnds) -> None:
    """With a key the higher id is read at once, and the lower one when it is there."""
    await ends.load(LOG)
    with open_transaction(ends) as late:
        late.execute("insert into log (note) values ('11')")
        ends.source("insert into log (note) values ('12')")
        await ends.load(LOG)
        assert ids(ends, "log") == [*range(1, 11), 12]
        assert cursor(ends) == "10"
        late.commit()
    await ends.load(LOG)
    assert ids(ends, "log") == list(range(1, 13))
    assert cursor(ends) == "12"


async def test_without_a_key_ids_wait_until_nothing_can_come_below_them(ends: TwoEnds) -> None:
    """Read twice, such a row would stand there twice."""
    await ends.load(KEYLESS_LOG)
    with open_transaction(ends) as late:
        late.execute("insert into log (note) values ('11')")
        ends.source("insert into log (note) values ('12')")
        result = await ends.load(KEYLESS_LOG)
        assert ids(ends, "log") == list(range(1, 11))
        assert result.counts.reconciliation == "match"
        late.commit()
    await ends.load(KEYLESS_LOG)
    await ends.load(KEYLESS_LOG)
    assert ids(ends, "log") == list(range(1, 13))


async def test_overlapping_transactions_never_starve_a_sequence(ends: TwoEnds) -> None:
    """On a busy source some transaction is always open. What was highest is settled once those of its time are gone,
    however many have begun since."""
    await ends.load(KEYLESS_LOG)
    with open_transaction(ends) as first:
        ends.source("insert into log (note) values ('11')")
        await ends.load(KEYLESS_LOG)
        assert ids(ends, "log") == list(range(1, 11))
        with open_transaction(ends):
            first.commit()
            first.close()
            ends.source("insert into log (note) values ('12')")
            await ends.load(KEYLESS_LOG)
            assert ids(ends, "log") == list(range(1, 12))


async def test_a_rolled_back_id_leaves_a_gap_and_no_trouble(ends: TwoEnds) -> None:
    await ends.load(KEYLESS_LOG)
    with open_transaction(ends) as late:
        late.execute("insert into log (note) values ('11')")
        late.rollback()
    ends.source("insert into log (note) values ('12')")
    result = await ends.load(KEYLESS_LOG)
    assert ids(ends, "log") == [*range(1, 11), 12]
    assert result.counts.reconciliation == "match"


async def test_an_emptied_log_does_not_move_the_cursor_back(ends: TwoEnds) -> None:
    await ends.load(LOG)
    ends.source("delete from log")
    await ends.load(LOG)
    assert cursor(ends) == "10"
    ends.source("insert into log (note) values ('11')")
    await ends.load(LOG)
    assert ids(ends, "log") == list(range(1, 12))


async def test_who_may_not_see_other_sessions_is_told_what_to_grant(ends: TwoEnds) -> None:
    with open_transaction(ends):
        blind = await horizon_of(ends, role="app")
        seeing = await horizon_of(ends)
    assert blind.warning is not None
    assert "grant pg_read_all_stats" in blind.warning
    assert seeing.warning is None
    assert seeing.oldest is not None
    window = await window_of(ends, PRICES, CursorState(), role="app")
    assert window.warning == blind.warning


async def test_sessions_that_do_not_show_their_transactions_are_warned_of(ends: TwoEnds) -> None:
    """`track_activities` can be switched off for a role or a database; its sessions then seem to do nothing."""
    with open_transaction(ends) as hidden:
        hidden.commit()
        with psycopg.connect(ends.shop.url("admin")) as admin:
            admin.execute("set track_activities = off")
            horizon = await horizon_of(ends)
    assert horizon.warning is not None
    assert "track_activities" in horizon.warning


async def test_our_own_readers_do_not_hold_each_other_back(ends: TwoEnds) -> None:
    address = DatabaseConnection("shop", ends.shop.url("extractor"))
    async with connect(address, side="source", application="medallion read shop.baskets") as ours, ours.transaction():
        assert (await horizon_of(ends)).oldest is None
    async with connect(address, side="source", application="someone") as other, other.transaction():
        assert (await horizon_of(ends)).oldest is not None


async def test_transactions_in_other_databases_do_not_matter(ends: TwoEnds) -> None:
    with psycopg.connect(ends.warehouse.url("admin")) as elsewhere:
        elsewhere.execute("select 1")
        assert (await horizon_of(ends)).oldest is None


async def test_rows_of_equal_timestamps_are_read_whole_and_once(ends: TwoEnds) -> None:
    """A bulk insert stamps a thousand rows alike; a cursor that asked for later ones would cut them in two."""
    ends.source("insert into prices select i, i, '2020-01-01' from generate_series(1000, 1999) as i")
    await ends.load(PRICES)
    ends.source("insert into prices values (2000, 0)")
    await ends.load(PRICES)
    ends.source("insert into prices select 3000, 0, updated_at from prices where id = 2000")
    await ends.load(PRICES)
    assert {2000, 3000} <= set(ids(ends, "prices"))
    assert ends.raw("select count(*), count(distinct id) from raw_shop.prices") == [(1012, 1012)]
    window = await window_of(ends, PRICES, CursorState("2020-01-01"))
    read = ends.source(f"select count(*) from prices where {window.condition} and updated_at = '2020-01-01'")
    assert read == [(1000,)]


async def test_rows_whose_cursor_is_null_are_read_every_time(ends: TwoEnds) -> None:
    ends.source("insert into prices values (70, 1, null)")
    await ends.load(PRICES)
    ends.source("update prices set price = 2 where id = 70; insert into prices values (71, 1, null)")
    result = await ends.load(PRICES)
    assert ends.raw("select id, price from raw_shop.prices where id in (70, 71) order by id") == [(70, 2), (71, 1)]
    assert result.counts.reconciliation == "match"


async def test_a_row_stamped_in_the_future_does_not_carry_the_cursor_there(ends: TwoEnds) -> None:
    ends.source("insert into prices values (80, 1, 'infinity'), (81, 1, '2107-01-01')")
    await ends.load(PRICES)
    ends.source("insert into prices values (82, 1)")
    await ends.load(PRICES)
    assert {80, 81, 82} <= set(ids(ends, "prices"))


@pytest.mark.parametrize(
    ("kind", "zone"),
    each_once(["timestamp(0)", "timestamp", "date", "timestamptz(3)"], ["UTC", "America/New_York", "Asia/Kolkata"]),
)
async def test_a_column_without_time_zone_is_understood_in_the_declared_zone(
    ends: TwoEnds, kind: str, zone: str
) -> None:
    """New York's local time lies hours behind UTC: read as UTC, the cursor would run ahead of rows still to come."""
    table = Table("local", key="id", cursor=Timestamp("at", zone=zone), load=Merge())
    ends.source(f"create table local (id int primary key, at {kind} not null)")
    with open_transaction(ends) as late:
        late.execute(f"set local timezone = '{zone}'")
        late.execute("insert into local values (1, now())")
        await ends.load(table)
        ends.source(f"set timezone = '{zone}'; insert into local values (2, now())")
        await ends.load(table)
        assert ids(ends, "local") == [2]
        late.commit()
    # By the cursor itself: a reread would find what a wrong one lost.
    assert (await ends.load(table)).strategy == "merge"
    assert ids(ends, "local") == [1, 2]
    window = await window_of(ends, table, CursorState(cursor(ends)))
    assert ends.source(f"select count(*) from local where {window.condition}")[0][0] <= 2


async def test_local_time_read_in_the_wrong_zone_is_lost(ends: TwoEnds) -> None:
    """The test of the test above."""
    table = Table("local", key="id", cursor=Timestamp("at", zone="UTC"), load=Merge())
    ends.source("create table local (id int primary key, at timestamp not null)")
    await ends.load(table)
    ends.source("set timezone = 'America/New_York'; insert into local values (1, now())")
    await ends.load(table)
    assert ids(ends, "local") == []


async def test_the_lag_is_read_again(ends: TwoEnds) -> None:
    table = Table("prices", key="id", cursor=Timestamp("updated_at", lag="10 min"), load=Merge())
    await ends.load(table)
    ends.source("insert into prices values (60, 1, now() - interval '9 min'), (61, 1, now() - interval '12 min')")
    result = await ends.load(table)
    assert 60 in ids(ends, "prices")
    assert 61 not in ids(ends, "prices")
    assert result.counts.reconciliation == "missing"


async def test_a_sequence_with_a_lag_reads_ids_that_a_cache_gave_out_early(ends: TwoEnds) -> None:
    table = Table("cached", key="id", cursor=Sequence("id", lag=100), load=Append())
    ends.source("create sequence s cache 20; create table cached (id bigint primary key default nextval('s'))")
    with psycopg.connect(ends.shop.url("app"), autocommit=True) as early:
        early.execute("insert into cached default values")
        ends.source("insert into cached default values")
        await ends.load(table)
        early.execute("insert into cached default values")
    await ends.load(table)
    assert ids(ends, "cached") == [1, 2, 21]


async def test_a_first_read_takes_everything(ends: TwoEnds) -> None:
    window = await window_of(ends, PRICES, CursorState())
    assert (window.condition, window.below, window.lower) == ("(true)", "true", None)
    window = await window_of(ends, Table("prices", key="id", load=Merge()), CursorState())
    assert (window.condition, window.next) == ("true", CursorState())


async def test_a_cursor_value_is_a_value_and_no_sql(ends: TwoEnds) -> None:
    window = await window_of(ends, PRICES, CursorState("2020' or true; drop table prices; --"))
    with pytest.raises(psycopg.errors.InvalidDatetimeFormat):
        ends.source(f"select count(*) from prices where {window.condition}")
    assert ends.source("select count(*) from prices") == [(10,)]
