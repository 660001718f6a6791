"""SQLite files into raw: dynamic types, cursors, deletes, and reruns."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows.declare import Append, Merge, Replace, Rule, Sequence, Timestamp
from flows.kinds.postgres import Database, Table
from flows.values.connection import DatabaseConnection
from flows.values.errors import ConfigurationError, DataRefused, SourceError
from flows.verbs.compare import compare_table
from flows.verbs.plan import plan_sources
from tests.conftest import TestDatabase
from tests.kinds.databases.loading import load, raw
from tests.kinds.loading import at, landing_tables, loads, open_quarantine, setting

pytest.importorskip("adbc_driver_sqlite", reason="the extra `databases` is not installed")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "till.db", isolation_level=None)
    yield connection
    connection.close()


def address(file: sqlite3.Connection) -> str:
    return f"sqlite:///{file.execute('pragma database_list').fetchone()[2]}"


ORDERS = Table(
    "orders",
    key="id",
    cursor=Timestamp("changed_at", lag="10 min"),
    load=Merge(),
    deletes=True,
    rules=(Rule("quantity_not_negative", "quantity >= 0"),),
    max_quarantined=0.5,
)


def make_orders(file: sqlite3.Connection, number: int = 50) -> None:
    file.execute("create table orders (id integer primary key, quantity int, note text, changed_at datetime)")
    file.executemany(
        "insert into orders values (?, ?, ?, ?)",
        [(n, n % 7, f"note {n}", f"2017-01-01 {n // 60:02}:{n % 60:02}:00") for n in range(1, number + 1)],
    )


@pytest.mark.parametrize(
    ("declared", "stored", "raw_type", "text"),
    [
        ("integer", "9223372036854775807", "bigint", "9223372036854775807"),
        ("integer", "-9223372036854775808", "bigint", "-9223372036854775808"),
        ("boolean", "1", "boolean", "true"),
        ("text", "'Grüße 😀, \"quoted\"\n\\.\ntwo lines'", "text", 'Grüße 😀, "quoted"\n\\.\ntwo lines'),
        ("text", "''", "text", ""),
        ("text", "null", "text", None),
        ("varchar(9)", "12", "text", "12"),
        ("blob", "x'00ff5c'", "bytea", "\\x00ff5c"),
        ("real", "0.1", "double precision", "0.1"),
        ("real", "1e300 * 1e10", "double precision", "Infinity"),
        ("double", "1.0 / 3", "double precision", "0.3333333333333333"),
        ("decimal(10,2)", "1.1", "numeric", "1.1"),
        ("numeric", "12345678901234567", "numeric", "12345678901234567"),
        ("date", "'2017-12-31'", "date", "2017-12-31"),
        ("datetime", "'2017-12-31T10:00:00.123456'", "timestamp without time zone", "2017-12-31 10:00:00.123456"),
        ("timestamp", "'2017-12-31 10:00:00'", "timestamp without time zone", "2017-12-31 10:00:00"),
        ("json", "'{\"a\": 1.0}'", "json", '{"a": 1.0}'),
        ("", "x'ff'", "text", "\\xFF"),
        ("", "7", "text", "7"),
    ],
)
async def test_a_value_arrives_as_it_is(
    warehouse: TestDatabase, file: sqlite3.Connection, declared: str, stored: str, raw_type: str, text: str | None
) -> None:
    file.execute(f"create table kinds (id integer primary key, value {declared})")
    file.execute(f"insert into kinds values (1, {stored})")
    await load(warehouse, address(file), Table("kinds", key="id", load=Replace()), "sqlite")
    (row,) = raw(warehouse, "kinds", "value::text as value, pg_typeof(value)::text as type")
    assert (row["type"], row["value"]) == (raw_type, text)


@pytest.mark.parametrize(
    ("declared", "stored"),
    [
        ("integer", "'seven'"),
        ("integer", "1.5"),
        ("boolean", "2"),
        ("date", "'2017-02-30'"),
        ("date", "'31.12.2017'"),
        ("datetime", "1512000000"),
        ("datetime", "'2017-12-31 10:00:00+02:00'"),
        ("datetime", "'2017-12-31 10:00:00.'"),
        ("json", "'{'"),
        ("real", "'warm'"),
        ("decimal(5,2)", "'dear'"),
        ("text", "x'00'"),
        ("text", "'a' || char(0) || 'b'"),
        ("blob", "'words'"),
    ],
)
async def test_a_value_of_another_type_goes_to_quarantine_whole(
    warehouse: TestDatabase, file: sqlite3.Connection, declared: str, stored: str
) -> None:
    """SQLite keeps anything anywhere: one such value must neither stop the load for good nor be lost."""
    file.execute(f"create table kinds (id integer primary key, value {declared})")
    file.execute(f"insert into kinds values (1, null), (2, {stored})")
    table = Table("kinds", key="id", load=Replace(), max_quarantined=0.5)
    result = await load(warehouse, address(file), table, "sqlite")
    assert (result.counts.rows_read, result.counts.rows_quarantined, result.counts.reconciliation) == (2, 1, "match")
    assert [row["id"] for row in raw(warehouse, "kinds")] == [1]
    (kept,) = open_quarantine(warehouse)
    assert kept["rule"] == "value_fits_type"
    assert kept["row_key"] == {"id": 2}
    assert set(json.loads(kept["row_data"]["text"])) == {"id", "value"}


async def test_without_tolerance_one_misfit_stops_the_load(warehouse: TestDatabase, file: sqlite3.Connection) -> None:
    file.execute("create table kinds (id integer primary key, value integer)")
    file.execute("insert into kinds values (1, 1), (2, 'two')")
    with pytest.raises(DataRefused, match="value_fits_type: 1"):
        await load(warehouse, address(file), Table("kinds", key="id", load=Replace()), "sqlite")


async def test_a_column_declared_as_text_takes_anything(warehouse: TestDatabase, file: sqlite3.Connection) -> None:
    file.execute("create table kinds (id integer primary key, value integer)")
    file.execute("insert into kinds values (1, 1), (2, 'two'), (3, 2.5), (4, x'ab'), (5, null)")
    table = Table("kinds", key="id", load=Replace(), as_text=("value",))
    await load(warehouse, address(file), table, "sqlite")
    assert [row["value"] for row in raw(warehouse, "kinds")] == ["1", "two", "2.5", "\\xAB", None]


async def test_many_misfits_name_the_column(warehouse: TestDatabase, file: sqlite3.Connection) -> None:
    file.execute("create table kinds (id integer primary key, value integer)")
    file.executemany("insert into kinds values (?, 'x')", [(n,) for n in range(1500)])
    table = Table("kinds", key="id", load=Replace(), max_quarantined=1)
    with pytest.raises(DataRefused, match=r'value: 1500.*as_text=\("value"'):
        await load(warehouse, address(file), table, "sqlite")


async def test_a_column_of_nulls_before_its_first_text_stays_whole(
    warehouse: TestDatabase, file: sqlite3.Connection
) -> None:
    """The driver types a column by its first batch of 20,000 rows."""
    file.execute("create table late (id integer primary key, word text)")
    file.execute("begin")  # 50,000 commits on a busy disk take minutes
    file.executemany("insert into late values (?, ?)", [(n, None if n < 45_000 else "x") for n in range(50_000)])
    file.execute("commit")
    result = await load(warehouse, address(file), Table("late", key="id", load=Replace()), "sqlite")
    assert result.counts.reconciliation == "match"
    assert raw(warehouse, "late", "count(word) as words")[0]["words"] == 5_000


async def test_changes_late_rows_deletes_and_quarantine_arrive(
    warehouse: TestDatabase, file: sqlite3.Connection
) -> None:
    make_orders(file)
    first = await load(warehouse, address(file), ORDERS, "sqlite")
    assert (first.strategy, first.counts.rows_inserted, first.counts.reconciliation) == ("initial", 50, "match")
    file.executescript("""
        update orders set note = 'changed', changed_at = '2017-01-02 00:00:00' where id = 3;
        insert into orders values (60, 1, 'late, inside the lag', '2017-01-01 00:45:00');
        insert into orders values (61, -1, 'negative', '2017-01-02T00:01:00');
        insert into orders values (62, 'many', 'no number', '2017-01-02 00:02:00');
        delete from orders where id in (7, 8);
    """)
    second = await load(warehouse, address(file), ORDERS, "sqlite")
    counts = second.counts
    assert (counts.rows_inserted, counts.rows_updated, counts.rows_deleted) == (1, 1, 2)
    assert (counts.rows_quarantined, counts.reconciliation) == (2, "match")
    gone = raw(warehouse, "orders", "id", "1 offset 0")
    assert {7, 8} <= {row["id"] for row in gone}
    assert sorted(row["rule"] for row in open_quarantine(warehouse)) == ["quantity_not_negative", "value_fits_type"]

    file.executescript("""
        update orders set quantity = 4, changed_at = '2017-01-03 00:00:00' where id = 62;
        delete from orders where id = 61;
    """)
    third = await load(warehouse, address(file), ORDERS, "sqlite")
    assert (third.counts.rows_inserted, third.counts.reconciliation) == (1, "match")
    assert open_quarantine(warehouse) == []
    assert landing_tables(warehouse) == []


async def test_a_rerun_changes_nothing(warehouse: TestDatabase, file: sqlite3.Connection) -> None:
    make_orders(file)
    await load(warehouse, address(file), ORDERS, "sqlite")
    before = raw(warehouse, "orders")
    again = await load(warehouse, address(file), ORDERS, "sqlite")
    assert (again.counts.changed, again.counts.reconciliation) == (0, "match")
    assert raw(warehouse, "orders") == before


async def test_a_delete_beside_a_row_that_was_missed_is_found(
    warehouse: TestDatabase, file: sqlite3.Connection
) -> None:
    """The counts agree then; only the keys tell."""
    make_orders(file)
    await load(warehouse, address(file), ORDERS, "sqlite")
    file.execute("delete from orders where id = 5")
    file.execute("insert into orders values (99, 1, 'backdated beyond the lag', '2016-01-01 00:00:00')")
    second = await load(warehouse, address(file), ORDERS, "sqlite")
    assert (second.counts.rows_deleted, second.counts.reconciliation) == (1, "missing")
    third = await load(warehouse, address(file), ORDERS, "sqlite")
    assert (third.strategy, third.counts.rows_inserted, third.counts.reconciliation) == ("reload", 1, "match")


async def test_an_open_writer_hides_nothing_for_good(warehouse: TestDatabase, file: sqlite3.Connection) -> None:
    make_orders(file)
    file.execute("pragma journal_mode = wal")
    file.execute("begin immediate")
    file.execute("insert into orders values (70, 1, 'committed late', '2017-01-01 00:50:30')")
    with sqlite3.connect(address(file).removeprefix("sqlite:///")) as reader:
        assert reader.execute("select count(*) from orders").fetchone() == (50,)
    assert (await load(warehouse, address(file), ORDERS, "sqlite")).counts.rows_inserted == 50
    file.execute("commit")
    assert (await load(warehouse, address(file), ORDERS, "sqlite")).counts.rows_inserted == 1


async def test_an_append_without_a_key_adds_each_row_once(warehouse: TestDatabase, file: sqlite3.Connection) -> None:
    file.execute("create table log (n integer not null, word text)")
    file.executemany("insert into log values (?, ?)", [(n, "w") for n in range(1, 11)])
    table = Table("log", cursor=Sequence("n"), load=Append())
    assert (await load(warehouse, address(file), table, "sqlite")).counts.rows_inserted == 10
    file.execute("insert into log values (11, 'new')")
    second = await load(warehouse, address(file), table, "sqlite")
    assert (second.counts.rows_read, second.counts.rows_inserted, second.counts.reconciliation) == (1, 1, "match")


async def test_what_does_not_fit_raws_columns_waits_where_that_is_declared(
    warehouse: TestDatabase, file: sqlite3.Connection
) -> None:
    table = replace(ORDERS, on_drift="quarantine", max_quarantined=1)
    make_orders(file)
    await load(warehouse, address(file), table, "sqlite")
    file.execute("alter table orders add column tier text")
    file.execute("update orders set tier = 'gold', changed_at = '2018-01-01 00:00:00' where id in (2, 3)")
    file.execute("update orders set note = 'mended', changed_at = '2018-01-01 00:00:00' where id = 4")

    result = await load(warehouse, address(file), table, "sqlite")

    assert (result.counts.rows_quarantined, result.counts.reconciliation) == (2, "match")
    assert {row["row_data"]["tier"] for row in open_quarantine(warehouse)} == {"gold"}
    assert raw(warehouse, "orders where id = 4", "note") == [{"note": "mended"}]
    after = await load(warehouse, address(file), replace(table, on_drift="evolve"), "sqlite")
    assert (after.strategy, open_quarantine(warehouse)) == ("reload", [])
    assert raw(warehouse, "orders where tier is not null", "id") == [{"id": 2}, {"id": 3}]


async def test_a_new_column_is_followed(warehouse: TestDatabase, file: sqlite3.Connection) -> None:
    make_orders(file)
    await load(warehouse, address(file), ORDERS, "sqlite")
    file.execute("alter table orders add column tier text")
    file.execute("update orders set tier = 'gold' where id = 1")
    result = await load(warehouse, address(file), ORDERS, "sqlite")
    assert (result.strategy, result.schema_changes, result.counts.rows_updated) == ("reload", ("tier added",), 1)


async def test_rows_that_an_append_reads_again_get_the_values_of_a_new_column(
    warehouse: TestDatabase, file: sqlite3.Connection
) -> None:
    """An append leaves alone what raw has: here every row is read by every load."""
    log = Table("log", key="n", cursor=Sequence("n", lag=100), load=Append())
    file.execute("create table log (n integer primary key, v text)")
    file.execute("insert into log values (1, 'a'), (2, 'b')")
    await load(warehouse, address(file), log, "sqlite")
    file.execute("alter table log add column tier text default 'gold'")
    result = await load(warehouse, address(file), log, "sqlite")
    assert (result.strategy, result.counts.rows_updated, result.counts.reconciliation) == ("reload", 2, "match")


async def test_a_file_that_is_not_there_is_told_and_not_made(warehouse: TestDatabase, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="check the path"):
        await load(warehouse, f"sqlite:///{tmp_path}/no.db", Table("t", load=Replace()), "sqlite")
    with pytest.raises(sqlite3.OperationalError):
        sqlite3.connect(f"file:{tmp_path}/no.db?mode=ro", uri=True)
    assert loads(warehouse)[-1]["status"] == "failed"


async def test_an_address_of_another_form_is_refused(warehouse: TestDatabase) -> None:
    with pytest.raises(ConfigurationError, match="sqlite:///folder"):
        await load(warehouse, "sqlite://till.db", Table("t", load=Replace()), "sqlite")


async def test_a_reconciliation_counts_and_tells_what_waits(warehouse: TestDatabase, file: sqlite3.Connection) -> None:
    make_orders(file)
    source = Database("erp", connection="erp", engine="sqlite", tables=[ORDERS])
    ends = (at(warehouse, "loader"), DatabaseConnection("erp", address(file)), source, ORDERS)
    await load(warehouse, address(file), ORDERS, "sqlite")
    assert (await compare_table(*ends)).result == "match"
    file.execute("insert into orders values (90, 1, 'new', '2017-02-01 00:00:00')")
    waits = await compare_table(*ends)
    assert (waits.result, waits.pending, waits.differences) == ("match", 1, 0)
    file.execute("delete from orders where id in (1, 2, 3)")
    differs = await compare_table(*ends)
    assert (differs.result, differs.extra) == ("different", 2)


async def test_a_plan_shows_what_a_run_would_read(
    warehouse: TestDatabase, file: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_orders(file)
    monkeypatch.setattr("flows.verbs.find.SOURCES", [
        Database("till", connection="till", engine="sqlite", tables=[ORDERS]),
    ])  # fmt: skip
    monkeypatch.setenv("MEDALLION_SOURCE_TILL_URL", address(file))
    with setting(warehouse_url=warehouse.url("loader")):
        (line,) = await plan_sources({"till": None})
    assert line.error is None
    assert line.plan is not None
    assert (line.plan.strategy, line.rows, line.state) == ("initial", 50, "pending")
    assert "sqlite via Arrow" in line.plan.reason


async def test_only_the_declared_columns_and_rows_are_read(warehouse: TestDatabase, file: sqlite3.Connection) -> None:
    make_orders(file)
    table = replace(ORDERS, exclude=("note",), where="quantity < 3 -- small ones")
    first = await load(warehouse, address(file), table, "sqlite")
    file.execute("update orders set quantity = 6, changed_at = '2027-01-01' where id = 1")
    second = await load(warehouse, address(file), table, "sqlite")

    assert (first.counts.rows_inserted, first.counts.reconciliation) == (22, "match")
    assert (second.counts.rows_deleted, second.counts.reconciliation) == (1, "match")
    assert "note" not in raw(warehouse, "orders")[0]
    with pytest.raises(SourceError, match="column notes of exclude is not in the table"):
        await load(warehouse, address(file), replace(table, exclude=("notes",)), "sqlite")
