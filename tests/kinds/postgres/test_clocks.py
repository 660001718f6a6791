"""Clocks and periods: local times, hours that come twice, clocks that step back, and what comes at a period's end."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.declare import Append, Epoch, Merge, Overwrite, Sequence, Timestamp
from flows.kinds.postgres import Table
from flows.kinds.postgres import window as windows
from flows.kinds.postgres.window import Horizon
from flows.values.errors import DeclarationError, SourceError
from tests.conftest import TestDatabase
from tests.nightly import chosen, each_once, nightly
from tests.publish.two_ends import TwoEnds, run_sql

NEW_YORK = "America/New_York"
LOCAL = Table("local", key="id", cursor=Timestamp("at"), load=Merge())


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    two = TwoEnds(warehouse, shop)
    two.source("create table local (id int primary key, v int default 0, at timestamp not null default now())")
    return two


class Clock:
    """The source's clock, as a test sets it. It goes on from there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = datetime.now(UTC)
        monkeypatch.setattr(windows, "look", self.look)

    @property
    def now(self) -> datetime:
        return self._set + timedelta(seconds=time.monotonic() - self._at)

    @now.setter
    def now(self, moment: datetime) -> None:
        self._set, self._at = moment, time.monotonic()

    async def look(self, connection: Any, now: datetime | None = None) -> Horizon:
        return Horizon(self.now, None, False, None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def ids(ends: TwoEnds, table: str) -> list[int]:
    return [row[0] for row in ends.raw(f"select id from raw_shop.{table} order by id")]


# -- local times in a column without time zone


@pytest.fixture(params=["database", "role"])
def writers_zone(request: pytest.FixtureRequest, ends: TwoEnds) -> str:
    """Whose setting it is that the application's sessions are in New York."""
    whose = {"database": f'database "{ends.shop.name}"', "role": f'role shop_app in database "{ends.shop.name}"'}
    run_sql(ends.shop.url("admin"), f"alter {whose[request.param]} set timezone = '{NEW_YORK}'")
    return str(request.param)


async def test_local_times_west_of_utc_are_refused_until_their_zone_is_declared(
    ends: TwoEnds, writers_zone: str
) -> None:
    ends.source("insert into local (id) values (1)")

    for attempt in (ends.reason, ends.load):
        with pytest.raises(SourceError, match="not in UTC: a cursor in UTC would lose changes for hours") as refused:
            await attempt(LOCAL)
        assert f'zone="{NEW_YORK}"' in refused.value.fix
        assert writers_zone in str(refused.value)

    declared = Table("local", key="id", cursor=Timestamp("at", zone=NEW_YORK), load=Merge())
    await ends.load(declared)
    ends.source("update local set v = 1, at = now(); insert into local (id) values (2)")
    result = await ends.load(declared)
    assert (result.strategy, result.warning) == ("merge", None)
    assert ends.same("local", "id, v, at")


async def test_local_times_that_are_not_evident_are_warned_of(ends: TwoEnds, writers_zone: str) -> None:
    ends.source("insert into local (id, at) values (1, now() - interval '3 days')")

    result = await ends.load(LOCAL)

    assert f"is read as UTC, but the {'setting of role shop_app' if writers_zone == 'role' else 'database'}" in str(
        result.warning
    )
    assert f'Timestamp("at", zone="{NEW_YORK}")' in str(result.warning)


@pytest.mark.parametrize("written", ["now() at time zone 'UTC'", None])
async def test_times_in_utc_are_not_suspected(ends: TwoEnds, writers_zone: str, written: str | None) -> None:
    """Told by the newest value, or by the declaration."""
    ends.source(f"insert into local (id, at) values (1, {written or 'now()'})")
    zone = "" if written else "UTC"

    result = await ends.load(Table("local", key="id", cursor=Timestamp("at", zone=zone), load=Merge()))

    assert result.warning is None


async def test_local_times_of_which_no_setting_tells_are_read_again_and_warned_of(ends: TwoEnds) -> None:
    """An application sets its zone by itself; the newest value moves, and stays below the cursor."""
    local = f"set timezone = '{NEW_YORK}'; "
    ends.source(local + "insert into local (id) values (1)")
    await ends.load(LOCAL)
    ends.source(local + "update local set v = 7, at = now()")

    result = await ends.load(LOCAL)

    assert (result.strategy, "bear times before the stored cursor" in str(result.warning)) == ("reload", True)
    assert ends.same("local", "id, v, at")
    assert (await ends.load(LOCAL)).strategy == "merge", "nothing was written since"


async def test_a_column_with_time_zone_is_not_suspected(ends: TwoEnds, writers_zone: str) -> None:
    ends.source("alter table local alter column at type timestamptz; insert into local (id) values (1)")
    assert (await ends.load(LOCAL)).warning is None


def test_an_unknown_zone_is_refused_where_it_is_declared() -> None:
    with pytest.raises(DeclarationError, match="time zone 'America/Gotham' is unknown"):
        Timestamp("at", zone="America/Gotham")
    with pytest.raises(DeclarationError, match="time zone 'Mars' is unknown"):
        Overwrite(by="at", every="day", zone="Mars")


# -- hours that come twice, or not at all


TWICE = [
    (NEW_YORK, "2016-11-06 05:00+00"),
    ("Europe/Berlin", "2016-10-30 00:00+00"),
    ("Australia/Lord_Howe", "2016-04-02 14:00+00"),  # half an hour
    (NEW_YORK, "2016-03-13 06:00+00"),  # left out
]


@pytest.mark.parametrize("lag", ["20 min", *nightly("0 s", "2 h")])
@pytest.mark.parametrize(("zone", "first"), TWICE)
async def test_no_row_of_an_hour_that_comes_twice_is_lost(
    ends: TwoEnds, clock: Clock, zone: str, first: str, lag: str
) -> None:
    """A row every five minutes and a load every ten, until the lag has left both hours behind: each arrives."""
    table = Table("local", key="id", cursor=Timestamp("at", zone=zone, lag=lag), load=Merge())
    begin = datetime.fromisoformat(first)
    clock.now = begin - timedelta(hours=1)
    ends.source("insert into local values (0, 0, '2016-01-01')")
    await ends.load(table)
    for number in range(1, 34 if lag == "20 min" else 50, 2):
        for one in (number, number + 1):
            clock.now = begin + timedelta(minutes=5 * one)
            ends.source("insert into local values (%s, 0, %s::timestamptz at time zone %s)", [one, clock.now, zone])
        result = await ends.load(table)
        assert result.strategy == "merge", "a row was lost, and is read again"
        assert ids(ends, "local")[-1] == number + 1


async def test_the_lag_counts_an_hour_that_was_left_out(ends: TwoEnds, clock: Clock) -> None:
    """At 3:10 in summer time, half an hour ago was 1:40."""
    table = Table("local", key="id", cursor=Timestamp("at", zone=NEW_YORK, lag="30 min"), load=Merge())
    clock.now = datetime(2016, 3, 13, 7, 10, tzinfo=UTC)
    ends.source("insert into local values (0, 0, '2016-01-01')")
    await ends.load(table)
    ends.source("insert into local values (1, 0, '2016-03-13 01:45')")

    await ends.load(table)

    assert ids(ends, "local") == [0, 1]


# -- clocks that step back


BY_CLOCK: dict[str, tuple[str, str, Any]] = {
    "timestamptz": ("timestamptz", "%s", Timestamp("at")),
    "timestamp": ("timestamp", "%s::timestamptz at time zone 'UTC'", Timestamp("at")),
    "epoch": ("bigint", "extract(epoch from %s::timestamptz)", Epoch("at")),
    "epoch in ms": ("numeric", "floor(extract(epoch from %s::timestamptz) * 1000)", Epoch("at", unit="ms")),
    "epoch in us": ("double precision", "extract(epoch from %s::timestamptz) * 1000000", Epoch("at", unit="us")),
}


async def stepping(ends: TwoEnds, way: str) -> tuple[Table, str]:
    type_, value, cursor = BY_CLOCK[way]
    ends.source(f"drop table local; create table local (id int primary key, v int default 0, at {type_} not null)")
    return Table("local", key="id", cursor=cursor, load=Merge()), value


@pytest.mark.parametrize(("way", "later"), each_once(BY_CLOCK, [timedelta(seconds=10), timedelta(hours=1)]))
async def test_rows_written_after_a_clock_was_set_back_are_read(
    ends: TwoEnds, clock: Clock, monkeypatch: pytest.MonkeyPatch, way: str, later: timedelta
) -> None:
    """By half an hour: a load right after it, and one so much later that the clock is beyond the cursor again."""
    table, value = await stepping(ends, way)
    began = clock.now
    ends.source(f"insert into local select n, 0, {value} from generate_series(1, 20) as n", [began - timedelta(days=1)])
    await ends.load(table)
    clock.now = began - timedelta(minutes=30) + later
    # The warehouse's clock goes on; a test cannot wait for it.
    ends.raw(
        "update ops.cursors set identity = jsonb_set(identity, '{warehouse_clock}', to_jsonb((identity ->> "
        "'warehouse_clock')::timestamptz - %s))", [later]
    )  # fmt: skip
    early = began - timedelta(minutes=29)
    ends.source(f"update local set v = 1, at = {value} where id <= 5", [early])

    result = await ends.load(table)

    assert "clock" in str(result.warning)
    assert ends.same("local", "id, v")
    ends.source(f"update local set v = 2, at = {value} where id <= 5", [clock.now])
    again = await ends.load(table)
    assert (again.strategy, again.warning) == ("merge", None)
    assert ends.same("local", "id, v")


async def test_a_clock_that_is_adjusted_reads_nothing_again(ends: TwoEnds, clock: Clock) -> None:
    table, value = await stepping(ends, "timestamptz")
    ends.source(f"insert into local values (1, 0, {value})", [clock.now - timedelta(days=1)])
    await ends.load(table)
    clock.now = clock.now - timedelta(milliseconds=300)

    result = await ends.load(table)

    assert (result.strategy, result.warning, result.counts.rows_read) == ("merge", None, 0)


async def test_a_server_that_shows_less_moves_no_cursor_back(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    """A standby that has replayed less than the server of the last load, or a transaction that was not visible."""
    table, value = await stepping(ends, "timestamptz")
    ends.source(f"insert into local values (1, 0, {value})", [datetime.now(UTC)])
    await ends.load(table)
    before = ends.raw("select cursor_value from ops.cursors")

    async def less(connection: Any, now: datetime | None = None) -> Horizon:
        clock = await connection.fetchval("select clock_timestamp()")
        return Horizon(clock, clock - timedelta(hours=1), False, None)

    monkeypatch.setattr(windows, "look", less)
    assert (await ends.load(table)).strategy == "merge"
    assert ends.raw("select cursor_value from ops.cursors") == before


@pytest.mark.parametrize("way", [way for way in BY_CLOCK if "epoch" in way])
async def test_an_epoch_is_followed_as_a_timestamp_is(ends: TwoEnds, way: str) -> None:
    table, value = await stepping(ends, way)
    ends.source(f"insert into local select n, n, {value} from generate_series(1, 50) as n",
                [datetime.now(UTC) - timedelta(days=1)])  # fmt: skip
    await ends.load(table)
    ends.source(f"update local set v = -1, at = {value} where id <= 5", [datetime.now(UTC)])

    result = await ends.load(table)

    assert (result.strategy, result.counts.rows_read, result.counts.rows_updated) == ("merge", 5, 5)
    assert ends.same("local", "id, v")


async def test_a_lag_of_an_epoch_is_in_its_unit(ends: TwoEnds, clock: Clock) -> None:
    _, value = await stepping(ends, "epoch in ms")
    lagging = Table("local", key="id", cursor=Epoch("at", unit="ms", lag="10 min"), load=Merge())
    ends.source(f"insert into local values (1, 0, {value})", [clock.now - timedelta(days=1)])
    await ends.load(lagging)
    for number, minutes in ((2, 9), (3, 12)):
        ends.source(f"insert into local values ({number}, 0, {value})", [clock.now - timedelta(minutes=minutes)])

    await ends.load(lagging)

    assert ids(ends, "local") == [1, 2]


# -- periods


PERIODS = {
    "keyed": Table("sales", key="id", load=Overwrite(by="at", every="day")),
    "keyless": Table("sales", load=Overwrite(by="at", every="day")),
    "followed": Table("sales", load=Overwrite(by="at", every="day"), cursor=Timestamp("changed_at")),
}


async def sales(ends: TwoEnds, kind: str = "timestamptz") -> None:
    ends.source(
        f"create table sales (id int, at {kind}, changed_at timestamptz default '2001-01-01');"
        "insert into sales select n, '2017-03-01 08:00' from generate_series(1, 5) as n"
    )


@pytest.mark.parametrize("way", chosen(PERIODS, "keyed", "followed"))
async def test_what_comes_between_the_last_load_of_a_day_and_its_end_is_read(
    ends: TwoEnds, clock: Clock, way: str
) -> None:
    await sales(ends)
    clock.now = datetime(2017, 3, 1, 20, 0, tzinfo=UTC)
    await ends.load(PERIODS[way])
    ends.source("insert into sales values (6, '2017-03-01 22:00'); delete from sales where id = 1")
    clock.now = datetime(2017, 3, 2, 1, 0, tzinfo=UTC)

    assert "those since the last load, from 2017-03-01 on" in await ends.reason(PERIODS[way])
    result = await ends.load(PERIODS[way])

    assert result.lower == "2017-03-01"
    assert ids(ends, "sales") == [2, 3, 4, 5, 6]
    clock.now += timedelta(hours=1)
    assert (await ends.load(PERIODS[way])).lower == "2017-03-02", "and then that day is over"


@pytest.mark.parametrize("way", chosen(PERIODS, "keyless", "followed"))
async def test_an_outage_longer_than_the_declared_partitions_loses_none(ends: TwoEnds, clock: Clock, way: str) -> None:
    await sales(ends)
    clock.now = datetime(2017, 3, 1, 20, 0, tzinfo=UTC)
    await ends.load(PERIODS[way])
    for day in range(2, 9):
        ends.source(f"insert into sales values ({day * 10}, '2017-03-{day:02} 10:00')")
    clock.now = datetime(2017, 3, 9, 1, 0, tzinfo=UTC)

    await ends.load(PERIODS[way])

    assert ids(ends, "sales") == [1, 2, 3, 4, 5, *range(20, 90, 10)]


async def test_a_failed_load_covers_no_partition(ends: TwoEnds, clock: Clock) -> None:
    await sales(ends)
    clock.now = datetime(2017, 3, 1, 20, 0, tzinfo=UTC)
    await ends.load(PERIODS["keyed"])
    ends.source("insert into sales values (null, '2017-03-01 22:00')")
    clock.now = datetime(2017, 3, 2, 1, 0, tzinfo=UTC)
    with pytest.raises(Exception, match="key"):
        await ends.load(PERIODS["keyed"])
    ends.source("update sales set id = 6 where id is null")
    clock.now = datetime(2017, 3, 3, 1, 0, tzinfo=UTC)

    await ends.load(PERIODS["keyed"])

    assert 6 in ids(ends, "sales")


async def test_a_row_of_yesterday_that_commits_today_is_read(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    """The load of after midnight covers yesterday as long as a transaction of yesterday is open."""
    await sales(ends)
    moments = [datetime(2017, 3, 2, 0, 1, tzinfo=UTC), datetime(2017, 3, 2, 1, 0, tzinfo=UTC)]
    oldest = [datetime(2017, 3, 1, 23, 59, tzinfo=UTC), None]

    async def look(connection: Any, now: datetime | None = None) -> Horizon:
        return Horizon(moments[0], oldest[0], False, None)

    monkeypatch.setattr(windows, "look", look)
    await ends.load(PERIODS["keyed"])
    ends.source("insert into sales values (6, '2017-03-01 23:59:30')")
    moments.pop(0), oldest.pop(0)

    await ends.load(PERIODS["keyed"])

    assert 6 in ids(ends, "sales")


async def test_partitions_of_a_load_before_there_was_an_identity_are_known_by_the_ledger(
    ends: TwoEnds, clock: Clock
) -> None:
    await sales(ends)
    clock.now = datetime(2017, 3, 1, 20, 0, tzinfo=UTC)
    await ends.load(PERIODS["keyed"])
    ends.raw("update ops.cursors set identity = null; update ops.loads set started_at = '2017-03-01 20:00Z'")
    ends.source("insert into sales values (6, '2017-03-01 22:00')")
    clock.now = datetime(2017, 3, 2, 1, 0, tzinfo=UTC)

    await ends.load(PERIODS["keyed"])

    assert 6 in ids(ends, "sales")


@pytest.mark.parametrize(("kind", "key"), each_once(["timestamptz", "timestamp", "date"], ["id", ()]))
async def test_days_begin_at_midnight_of_the_declared_zone(ends: TwoEnds, clock: Clock, kind: str, key: Any) -> None:
    """In Kolkata the second of March begins at 18:30 UTC of the first."""
    zone = "Asia/Kolkata"
    table = Table("sales", key=key, load=Overwrite(by="at", every="day", zone=zone))
    ends.source(f"create table sales (id int, at {kind})")
    session = f"set timezone = '{zone}'; insert into sales values "
    ends.source(session + "(1, '2017-03-01 23:00'), (2, '2017-03-02 01:00'), (3, '2017-03-02 04:00')")
    clock.now = datetime(2017, 3, 1, 20, 0, tzinfo=UTC)  # 01:30 of the second there
    await ends.load(table)
    assert (await ends.load(table)).counts.rows_read == 2
    ends.source("delete from sales where id in (1, 2)")

    result = await ends.load(table)

    assert result.counts.rows_deleted >= 1
    assert ids(ends, "sales") == [1, 3]


async def test_a_keyless_append_by_number_has_no_clock(ends: TwoEnds, clock: Clock) -> None:
    ends.source("insert into local (id) values (1)")
    table = Table("local", cursor=Sequence("id"), load=Append())
    await ends.load(table)
    clock.now -= timedelta(hours=1)
    ends.source("insert into local (id) values (2)")

    assert (await ends.load(table)).counts.rows_inserted == 1
