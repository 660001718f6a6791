"""Cursors of other databases: trusted only of the column, table and server that they were taken from."""

import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.declare import Append, Epoch, Merge, Sequence, Timestamp
from flows.kinds.databases.clocks import earlier_local, earliest_local
from flows.kinds.databases.identity import _contains
from flows.kinds.postgres import Table
from flows.values.errors import DataRefused, DeclarationError, SourceError
from tests.conftest import TestDatabase
from tests.kinds.databases.loading import load, raw
from tests.kinds.loading import rows

pytest.importorskip("adbc_driver_sqlite", reason="the extra `databases` is not installed")

BY_TIME = Table("items", key="id", cursor=Timestamp("at"), load=Merge())
BY_ID = Table("items", key="id", cursor=Sequence("id"), load=Merge())
BY_VERSION = Table("items", key="id", cursor=Sequence("ver"), load=Merge())
KEYLESS = Table("items", cursor=Sequence("id"), load=Append())


@pytest.fixture
def file(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "till.db", isolation_level=None)
    connection.execute("create table items (id integer primary key autoincrement, ver int, v int, at datetime, e int)")
    for n in range(1, 31):
        connection.execute(
            "insert into items values (?, ?, ?, ?, ?)",
            (n, n % 7, n, f"2017-01-01 00:{n:02}:00", 1_483_228_800 + n * 60),
        )
    yield connection
    connection.close()


def url(file: sqlite3.Connection) -> str:
    return f"sqlite:///{file.execute('pragma database_list').fetchone()[2]}"


def values(warehouse: TestDatabase) -> list[tuple[int, int]]:
    return [(row["id"], row["v"]) for row in raw(warehouse, "items", "id, v")]


def held(file: sqlite3.Connection) -> list[tuple[int, int]]:
    return list(file.execute("select id, v from items order by id"))


def cursor(warehouse: TestDatabase) -> Any:
    return rows(warehouse, "select cursor_value from ops.cursors")[0]["cursor_value"]


async def test_another_cursor_column_is_read_from_the_beginning(
    warehouse: TestDatabase, file: sqlite3.Connection
) -> None:
    await load(warehouse, url(file), BY_ID, "sqlite")
    file.execute("update items set v = -v, ver = 40 where id <= 10")

    result = await load(warehouse, url(file), BY_VERSION, "sqlite")

    assert (result.strategy, "the cursor was Sequence" in str(result.warning)) == ("reload", True)
    assert values(warehouse) == held(file)
    with pytest.raises(DeclarationError, match="raw was loaded with id"):
        await load(warehouse, url(file), KEYLESS, "sqlite")


@pytest.mark.parametrize("table", [BY_TIME, BY_VERSION, Table("items", key="id", cursor=Epoch("e"), load=Merge())],
                         ids=["timestamp", "sequence", "epoch"])  # fmt: skip
async def test_a_file_restored_from_an_earlier_day_is_read_from_the_beginning(
    warehouse: TestDatabase, file: sqlite3.Connection, tmp_path: Path, table: Table
) -> None:
    shutil.copy(tmp_path / "till.db", tmp_path / "yesterday.db")
    file.execute("update items set v = -v, ver = 50, at = '2017-01-02 00:00:00', e = 1483315200 where id <= 10")
    await load(warehouse, url(file), table, "sqlite")
    earlier = sqlite3.connect(tmp_path / "yesterday.db", isolation_level=None)

    result = await load(warehouse, url(earlier), table, "sqlite")

    assert (result.strategy, "below the stored" in str(result.warning) or "older" in str(result.warning)) == (
        "reload", True
    )  # fmt: skip
    assert values(warehouse) == held(earlier)
    assert (await load(warehouse, url(earlier), table, "sqlite")).strategy == "merge"
    earlier.close()


async def test_a_restarted_sequence_is_refused_without_a_key_and_read_again_with_one(
    warehouse: TestDatabase, file: sqlite3.Connection
) -> None:
    await load(warehouse, url(file), BY_ID, "sqlite")
    file.execute("delete from items")
    file.execute("delete from sqlite_sequence")
    file.execute("insert into items (v, at) values (-1, '2018-01-01 00:00:00')")

    assert (await load(warehouse, url(file), BY_ID, "sqlite")).strategy == "reload"
    assert (1, -1) in values(warehouse)
    assert cursor(warehouse) == "1"


async def test_numbers_that_fell_are_refused_without_a_key(warehouse: TestDatabase, file: sqlite3.Connection) -> None:
    await load(warehouse, url(file), KEYLESS, "sqlite")
    file.execute("delete from items")
    file.execute("delete from sqlite_sequence")
    file.execute("insert into items (v) values (-1)")

    with pytest.raises(DataRefused, match="--recreate"):
        await load(warehouse, url(file), KEYLESS, "sqlite")
    assert cursor(warehouse) == "30"


async def test_deleting_the_newest_row_moves_no_cursor_back(warehouse: TestDatabase, file: sqlite3.Connection) -> None:
    await load(warehouse, url(file), KEYLESS, "sqlite")
    file.execute("delete from items where id > 20")

    warning = (await load(warehouse, url(file), KEYLESS, "sqlite")).warning
    assert str(warning).startswith("10 rows in raw no longer at the source")
    assert cursor(warehouse) == "30"


async def test_a_column_dropped_and_added_again_is_read_again(
    warehouse: TestDatabase, file: sqlite3.Connection
) -> None:
    await load(warehouse, url(file), BY_TIME, "sqlite")
    file.execute("alter table items drop column v")
    file.execute("alter table items add column v int default 7")

    assert (await load(warehouse, url(file), BY_TIME, "sqlite")).strategy == "reload"
    assert values(warehouse) == held(file)


async def test_an_epoch_is_followed(warehouse: TestDatabase, file: sqlite3.Connection) -> None:
    table = Table("items", key="id", cursor=Epoch("e", lag="90 s"), load=Merge())
    await load(warehouse, url(file), table, "sqlite")
    file.execute("update items set v = -1, e = 1483315200 where id = 1")

    result = await load(warehouse, url(file), table, "sqlite")

    assert (result.strategy, result.counts.rows_read, result.counts.rows_updated) == ("merge", 3, 1)


@pytest.mark.parametrize(("cursor", "type_", "value", "said"), [
    (Sequence("c"), "text", "'2017-01-01T00:00:00'", "needs a column of type smallint"),
    (Sequence("c"), "", "'2017-01-01T00:00:00'", "is not a whole number"),
    (Sequence("c"), "numeric", "1.5", "is not a whole number"),
    (Timestamp("c"), "datetime", "1500000000", "not ISO timestamps throughout"),
    (Timestamp("c"), "text", "'01.02.2017'", "not ISO timestamps"),
    (Timestamp("c"), "integer", "1500000000", "needs a column of type date"),
    (Epoch("c"), "datetime", "'2017-01-01'", "needs a column of type integer"),
    (Epoch("c"), "numeric", "'2017-01-01'", "are not numbers throughout"),
])  # fmt: skip
async def test_a_cursor_that_does_not_fit_its_column_is_refused_on_the_first_day(
    warehouse: TestDatabase, file: sqlite3.Connection, cursor: Any, type_: str, value: str, said: str
) -> None:
    file.execute(f"create table odd (id integer primary key, c {type_})")
    file.execute(f"insert into odd values (1, {value})")

    with pytest.raises(SourceError, match=said):
        await load(warehouse, url(file), Table("odd", key="id", cursor=cursor, load=Merge()), "sqlite")
    assert rows(warehouse, "select from ops.cursors") == []


def test_the_earliest_local_time_of_an_hour_that_comes_twice() -> None:
    """At 1:50 in summer time the clock is about to show 1:00 again."""
    before, after = datetime(2016, 11, 6, 5, 50, tzinfo=UTC), datetime(2016, 11, 6, 6, 10, tzinfo=UTC)
    assert earliest_local(before, "America/New_York") == datetime(2016, 11, 6, 1, 0)
    assert earliest_local(after, "America/New_York") == datetime(2016, 11, 6, 1, 10)
    assert earliest_local(before, "UTC") == datetime(2016, 11, 6, 5, 50)
    spring = earlier_local(datetime(2016, 3, 13, 3, 10), timedelta(minutes=30), "America/New_York")
    assert spring == datetime(2016, 3, 13, 1, 40)


def test_a_copy_of_mariadb_is_behind_if_one_of_its_domains_is() -> None:
    assert _contains("0-2-100,1-1-7", "0-1-99,1-1-7")
    assert not _contains("0-2-100,1-1-6", "0-1-99,1-1-7")
    assert not _contains("0-2-100", "0-1-99,1-1-7")
