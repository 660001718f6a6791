"""A real MariaDB into raw: every mapped type, late commits, deletes, kills and flat memory."""

import asyncio
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.declare import Append, Epoch, Merge, Replace, Sequence, Timestamp
from flows.failures.failpoints import FAILPOINTS
from flows.kinds.postgres import Table
from flows.values.errors import ConfigurationError, SourceError
from tests.conftest import TestCluster, TestDatabase, fresh_warehouse
from tests.kinds.conformance import forking
from tests.kinds.databases.loading import MISSING, MariaDb, load, raw, running_mariadb
from tests.kinds.loading import loads, open_quarantine, rows

pytestmark = pytest.mark.xdist_group("mariadb")
if MISSING:  # before the driver's library is looked for: without it this is no ImportError
    pytest.skip(MISSING, allow_module_level=True)
pytest.importorskip("arrow_odbc", reason="the extra `databases` is not installed", exc_type=ImportError)

ROOT = Path(__file__).parents[3]
MEGABYTE = 1024  # ru_maxrss counts kilobytes


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDb]:
    with running_mariadb() as database:
        yield database


@pytest.fixture
def erp(server: MariaDb) -> MariaDb:
    """The server with an empty database."""
    server.run("drop database erp; create database erp character set utf8mb4", "-Dmysql")
    return server


ORDERS = Table("orders", key="id", cursor=Timestamp("changed_at"), load=Merge(), deletes=True)


def make_orders(erp: MariaDb, number: int = 100) -> None:
    erp.run(
        "create table orders (id int unsigned auto_increment primary key, amount decimal(12,2), note varchar(40), "
        "changed_at timestamp(6) not null default now(6) on update now(6)); "
        f"insert into orders (id, amount, note, changed_at) select seq, seq / 7, concat('note ', seq), "
        f"'2017-01-01' + interval seq second from seq_1_to_{number}"
    )


VALUES: list[tuple[str, str, str, str | None]] = [
    ("tinyint(1)", "2", "smallint", "2"),
    ("tinyint unsigned", "255", "smallint", "255"),
    ("smallint unsigned", "65535", "integer", "65535"),
    ("mediumint unsigned zerofill", "7", "integer", "7"),
    ("int", "-2147483648", "integer", "-2147483648"),
    ("int unsigned", "4294967295", "bigint", "4294967295"),
    ("bigint", "-9223372036854775808", "bigint", "-9223372036854775808"),
    ("bigint unsigned", "18446744073709551615", "numeric(20,0)", "18446744073709551615"),
    ("decimal(65,30)", "repeat('9', 35)", "numeric(65,30)", "9" * 35 + "." + "0" * 30),
    ("decimal(10,2)", "1.10", "numeric(10,2)", "1.10"),
    ("float", "0.1", "real", "0.1"),
    ("float", "16777217", "real", "1.6777216e+07"),
    ("float", "3.4028235e38", "real", "3.4028235e+38"),
    ("double", "1e0 / 3", "double precision", "0.3333333333333333"),
    ("double", "1.7976931348623157e308", "double precision", "1.7976931348623157e+308"),
    ("double", "0.1e0 + 0.2e0", "double precision", "0.30000000000000004"),
    ("year", "2017", "smallint", "2017"),
    ("date", "'9999-12-31'", "date", "9999-12-31"),
    ("datetime", "'2017-12-31 23:59:59'", "timestamp(0) without time zone", "2017-12-31 23:59:59"),
    ("datetime(6)", "'2017-12-31 23:59:59.123456'", "timestamp(6) without time zone", "2017-12-31 23:59:59.123456"),
    ("timestamp(3) null", "from_unixtime(1509858000.125)", "timestamp(3) with time zone",
     "2017-11-05 05:00:00.125+00"),
    ("timestamp null", "from_unixtime(1509861600)", "timestamp(0) with time zone", "2017-11-05 06:00:00+00"),
    ("time", "'838:59:59'", "interval", "838:59:59"),
    ("time(6)", "'-26:00:00.000001'", "interval", "-26:00:00.000001"),
    ("varchar(40)", "'Grüße 😀 \"q\" \\\\n, \\\\.'", "text", 'Grüße 😀 "q" \\n, \\.'),
    ("varchar(40)", "''", "text", ""),
    ("varchar(40)", "null", "text", None),
    ("varchar(40) character set latin1", "'Grüße'", "text", "Grüße"),
    ("varchar(40) character set utf16", "'Grüße 😀'", "text", "Grüße 😀"),
    ("varchar(40) collate utf8mb4_unicode_ci", "'abc'", "text", "abc"),
    ("char(5)", "'ab'", "text", "ab"),
    ("longtext", "repeat('é', 300000)", "text", "é" * 300_000),
    ("enum('new', 'it''s', 'a,b')", "'it''s'", "text", "it's"),
    ("set('a', 'b', 'c')", "'a,c'", "text", "a,c"),
    ("json", "'{\"a\": 1.10, \"b\": \"\\\\u00e9\"}'", "text", '{"a": 1.10, "b": "\\u00e9"}'),
    ("bit(5)", "b'101'", "bit(5)", "00101"),
    ("bit(64)", "b'1'", "bit(64)", "0" * 63 + "1"),
    ("bit(64)", "18446744073709551615", "bit(64)", "1" * 64),
    ("binary(4)", "'ab'", "bytea", "\\x61620000"),
    ("varbinary(9)", "x'00ff5c'", "bytea", "\\x00ff5c"),
    ("longblob", "repeat(x'ff', 100000)", "bytea", "\\x" + "ff" * 100_000),
    ("uuid", "'123e4567-e89b-12d3-a456-426655440000'", "uuid", "123e4567-e89b-12d3-a456-426655440000"),
    ("inet6", "'2001:db8::1'", "inet", "2001:db8::1/128"),
    ("point", "point(1, 2)", "bytea", "\\x000000000101000000000000000000f03f0000000000000040"),
]  # fmt: skip


@pytest.fixture(scope="module")
def arrived(server: MariaDb, cluster: TestCluster) -> Iterator[list[tuple[str, str | None]]]:
    """Type and text in raw of each of VALUES: columns of one row, loaded at once."""
    server.run("drop database erp; create database erp character set utf8mb4", "-Dmysql")
    columns = ", ".join(f"v{n} {declared}" for n, (declared, *_) in enumerate(VALUES))
    server.run(
        f"create table kinds (id int primary key, {columns}); set time_zone = '+00:00'; "
        f"insert into kinds values (1, {', '.join(stored for _, stored, *_ in VALUES)})"
    )
    with fresh_warehouse(cluster) as warehouse:
        table = Table("kinds", key="id", load=Replace())
        result = asyncio.run(load(warehouse, server.url, table, "mysql"))
        assert result.counts.reconciliation == "match"
        types = {
            row["name"]: row["type"]
            for row in rows(
                warehouse,
                "select attname::text as name, format_type(atttypid, atttypmod) as type from pg_attribute "
                "where attrelid = 'raw_erp.kinds'::regclass",
            )
        }
        (row,) = raw(warehouse, "kinds", ", ".join(f"v{n}::text as v{n}" for n in range(len(VALUES))))
        yield [(types[f"v{n}"], row[f"v{n}"]) for n in range(len(VALUES))]


# pytest hands a test's name to every program the test starts, and a name may not be 600 kB long.
@pytest.mark.parametrize("place", range(len(VALUES)), ids=[f"{of[0]} {of[1][:30]}" for of in VALUES])
def test_a_value_arrives_as_it_is(arrived: list[tuple[str, str | None]], place: int) -> None:
    assert arrived[place] == VALUES[place][2:]


@pytest.mark.parametrize(
    ("declared", "stored"),
    [
        ("date", "'0000-00-00'"),
        ("date", "'2017-00-15'"),
        ("datetime(3)", "'0000-00-00 00:00:00'"),
        ("timestamp null", "'0000-00-00 00:00:00'"),
        ("varchar(9)", "'a\\0b'"),
        ("varchar(9) collate utf8mb4_unicode_ci", "'a\\0b'"),
        ("text", "'\\0'"),
    ],
)
async def test_what_postgresql_cannot_hold_goes_to_quarantine_whole(
    warehouse: TestDatabase, erp: MariaDb, declared: str, stored: str
) -> None:
    erp.run(f"create table kinds (id int primary key, value {declared}); insert into kinds values (1, null)")
    erp.run(f"insert into kinds values (2, {stored})")
    table = Table("kinds", key="id", load=Replace(), max_quarantined=0.5)
    result = await load(warehouse, erp.url, table, "mysql")
    assert (result.counts.rows_read, result.counts.rows_quarantined, result.counts.reconciliation) == (2, 1, "match")
    (kept,) = open_quarantine(warehouse)
    assert (kept["rule"], kept["row_key"]) == ("value_fits_type", {"id": 2})
    erp.run("delete from kinds where id = 2")
    await load(warehouse, erp.url, table, "mysql")
    assert open_quarantine(warehouse) == []


async def test_zero_dates_come_as_text_when_declared(warehouse: TestDatabase, erp: MariaDb) -> None:
    erp.run("create table kinds (id int primary key, value date); insert into kinds values (1, '0000-00-00')")
    await load(warehouse, erp.url, Table("kinds", key="id", load=Replace(), as_text=("value",)), "mysql")
    assert [row["value"] for row in raw(warehouse, "kinds")] == ["0000-00-00"]


async def test_a_commit_after_the_read_is_not_lost(warehouse: TestDatabase, erp: MariaDb) -> None:
    """Stamped before the first load, committed after it: a cursor at the highest value seen would step over it."""
    make_orders(erp)
    with erp.open_session() as late:
        late.run("begin; insert into orders (id, note) values (500, 'late')")
        await asyncio.sleep(3.5)  # beyond the guard of 2 s, so that only the open transaction holds the cursor back
        erp.run("insert into orders (id, note) values (501, 'early')")
        first = await load(warehouse, erp.url, ORDERS, "mysql")
        assert (first.counts.rows_inserted, first.warning) == (101, None)
        late.run("commit")
    second = await load(warehouse, erp.url, ORDERS, "mysql")
    assert (second.counts.rows_inserted, second.counts.reconciliation) == (1, "match")
    assert second.strategy == "merge"  # by the cursor, not because a count was short


async def test_ids_given_out_before_a_late_commit_are_not_lost(warehouse: TestDatabase, erp: MariaDb) -> None:
    erp.run("create table log (n bigint auto_increment, word varchar(9), key (n)); insert into log (word) values ('a')")
    table = Table("log", cursor=Sequence("n"), load=Append())
    assert (await load(warehouse, erp.url, table, "mysql")).counts.rows_inserted == 1
    with erp.open_session() as late:
        late.run("begin; insert into log (word) values ('late')")
        erp.run("insert into log (word) values ('early')")
        await load(warehouse, erp.url, table, "mysql")
        late.run("commit")
    await load(warehouse, erp.url, table, "mysql")
    final = await load(warehouse, erp.url, table, "mysql")
    assert [row["word"] for row in raw(warehouse, "log", order="n")] == ["a", "late", "early"]
    assert final.counts.reconciliation == "match"


async def test_changes_and_deletes_arrive_and_a_rerun_changes_nothing(warehouse: TestDatabase, erp: MariaDb) -> None:
    make_orders(erp)
    assert (await load(warehouse, erp.url, ORDERS, "mysql")).counts.reconciliation == "match"
    erp.run("update orders set note = 'changed' where id = 3; delete from orders where id in (7, 8); "
            "insert into orders (id, note) values (200, 'new')")  # fmt: skip
    second = (await load(warehouse, erp.url, ORDERS, "mysql")).counts
    assert (second.rows_inserted, second.rows_updated, second.rows_deleted) == (1, 1, 2)
    assert second.reconciliation == "match"
    before = raw(warehouse, "orders")
    third = await load(warehouse, erp.url, ORDERS, "mysql")
    assert (third.counts.changed, third.counts.reconciliation) == (0, "match")
    assert raw(warehouse, "orders") == before


async def test_chunks_of_a_key_of_texts_and_numbers_lose_no_row(
    warehouse: TestDatabase, erp: MariaDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunk edges within equal first parts, in a collation where ä is a, and quotes in the values."""
    monkeypatch.setattr("flows.kinds.databases.rows.CHUNK_ROWS", 7)
    erp.run(
        "create table pairs (region varchar(20) collate utf8mb4_unicode_ci, n int, primary key (region, n)); "
        "insert into pairs select elt(1 + seq % 4, 'Aa', 'älter', 'it''s \\\\', '😀'), seq from seq_1_to_200"
    )
    table = Table("pairs", key=("region", "n"), load=Merge(), deletes=True)
    result = await load(warehouse, erp.url, table, "mysql")
    assert (result.counts.rows_inserted, result.counts.reconciliation) == (200, "match")


async def test_equal_keys_that_the_source_allows_are_all_read(
    warehouse: TestDatabase, erp: MariaDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A declared key without a unique index must not decide where a chunk begins."""
    monkeypatch.setattr("flows.kinds.databases.rows.CHUNK_ROWS", 3)
    erp.run("create table loose (id int not null, n int); insert into loose select seq div 5, seq from seq_0_to_19")
    result = await load(warehouse, erp.url, Table("loose", key="id", load=Replace(), max_quarantined=1.0), "mysql")
    assert (result.counts.rows_read, result.counts.rows_quarantined) == (20, 20)
    assert result.counts.reconciliation == "duplicate"


async def test_a_unique_index_with_a_nullable_column_does_not_divide_a_table(
    warehouse: TestDatabase, erp: MariaDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It allows equal rows, which would be lost at a chunk's edge."""
    monkeypatch.setattr("flows.kinds.databases.rows.CHUNK_ROWS", 3)
    erp.run(
        "create table half (id int not null, n int, unique (id, n)); insert into half select seq div 5, null "
        "from seq_0_to_19"
    )
    result = await load(warehouse, erp.url, Table("half", key="id", load=Replace(), max_quarantined=1.0), "mysql")
    assert (result.counts.rows_read, result.counts.rows_quarantined) == (20, 20)


@pytest.mark.parametrize("failpoint", ["after_copy", "in_publish_after_rows", "after_commit"])
async def test_a_kill_loses_nothing(warehouse: TestDatabase, erp: MariaDb, failpoint: str) -> None:
    assert failpoint in FAILPOINTS
    make_orders(erp)
    await load(warehouse, erp.url, ORDERS, "mysql")
    erp.run("update orders set note = 'changed' where id <= 10; delete from orders where id = 50")
    addresses = [warehouse.url("loader"), erp.url]
    killed = forking.run("tests.kinds.databases.one_load", addresses, {"MEDALLION_FAILPOINT": failpoint})
    assert killed.returncode == -9, killed.stderr
    assert (await load(warehouse, erp.url, ORDERS, "mysql")).counts.reconciliation == "match"
    left = raw(warehouse, "orders", "count(*) filter (where note = 'changed') as changed, "
               "count(*) filter (where _deleted_at is not null) as deleted")  # fmt: skip
    assert left == [{"changed": 10, "deleted": 1}]


async def test_memory_stays_flat(warehouse: TestDatabase, erp: MariaDb) -> None:
    """A result held whole by the driver would take 70 MB for these 300,000 rows."""
    erp.run(
        "create table big (id int primary key, a varchar(100), b varchar(100), c decimal(12,2)); "
        "insert into big select seq, repeat('x', seq % 100), concat('é', seq), seq / 3 from seq_1_to_20000"
    )
    table = Table("big", key="id", load=Replace())
    await load(warehouse, erp.url, table, "mysql")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    erp.run("insert into big select 20000 + seq, repeat('x', 90), repeat('y', 90), seq from seq_1_to_280000")
    result = await load(warehouse, erp.url, table, "mysql")
    assert (result.counts.rows_read, result.counts.reconciliation) == (300_000, "match")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 25 * MEGABYTE


async def test_a_reader_without_the_right_to_see_transactions_is_warned(warehouse: TestDatabase, erp: MariaDb) -> None:
    make_orders(erp)
    for host in ("127.0.0.1", "localhost"):
        erp.run(f"create or replace user poor@'{host}' identified by 'p'; grant select on erp.* to poor@'{host}'")
    result = await load(warehouse, erp.url.replace("reader:r%7Dd;er", "poor:p"), ORDERS, "mysql")
    assert "grant process" in (result.warning or "")
    assert result.counts.reconciliation == "match"


async def test_a_wrong_password_is_refused_without_naming_it(warehouse: TestDatabase, erp: MariaDb) -> None:
    with pytest.raises(ConfigurationError) as refused:
        await load(warehouse, erp.url.replace("r%7Dd;er", "sesame"), ORDERS, "mysql")
    assert "1045" in str(refused.value)
    assert "sesame" not in str(refused.value) + str(loads(warehouse))


async def test_a_server_that_does_not_answer_can_be_tried_again(warehouse: TestDatabase, erp: MariaDb) -> None:
    with pytest.raises(SourceError) as failed:
        await load(warehouse, erp.url.replace(str(erp.port), "9"), ORDERS, "mysql")
    assert failed.value.retryable


async def test_a_table_that_is_not_there_is_told(warehouse: TestDatabase, erp: MariaDb) -> None:
    with pytest.raises(SourceError, match="table orders does not exist"):
        await load(warehouse, erp.url, ORDERS, "mysql")


@pytest.mark.parametrize(("changed", "why"), [
    ("alter table orders modify mood enum('poor', 'high', 'new')", "labels of the enum"),
    ("alter table orders drop column note; alter table orders add column note varchar(40) default 'x'", "made again"),
])  # fmt: skip
async def test_a_column_that_changed_its_meaning_is_read_again(
    warehouse: TestDatabase, erp: MariaDb, changed: str, why: str
) -> None:
    make_orders(erp)
    erp.run("alter table orders add column mood enum('low', 'high') not null default 'high'")
    await load(warehouse, erp.url, ORDERS, "mysql")
    erp.run("alter table orders modify mood enum('low', 'high', 'new') not null default 'high'")
    assert (await load(warehouse, erp.url, ORDERS, "mysql")).strategy == "merge"
    erp.run(changed)

    result = await load(warehouse, erp.url, ORDERS, "mysql")

    assert (result.strategy, why in str(result.warning)) == ("reload", True)


async def test_a_restarted_auto_increment_is_noticed(warehouse: TestDatabase, erp: MariaDb) -> None:
    make_orders(erp)
    table = Table("orders", key="id", cursor=Sequence("id"), load=Merge())
    await load(warehouse, erp.url, table, "mysql")
    erp.run("truncate orders; insert into orders (note) values ('again')")

    result = await load(warehouse, erp.url, table, "mysql")

    assert (result.strategy, "restarted" in str(result.warning)) == ("reload", True)
    assert "again" in {row["note"] for row in raw(warehouse, "orders", "note")}


async def test_an_epoch_is_followed(warehouse: TestDatabase, erp: MariaDb) -> None:
    erp.run("create table e (id int primary key, v int, at bigint); insert into e values (1, 1, 1500000000000)")
    table = Table("e", key="id", cursor=Epoch("at", unit="ms"), load=Merge())
    await load(warehouse, erp.url, table, "mysql")
    erp.run("insert into e values (2, 2, unix_timestamp(now(6)) * 1000)")

    result = await load(warehouse, erp.url, table, "mysql")

    assert (result.strategy, result.counts.rows_read) == ("merge", 1)
