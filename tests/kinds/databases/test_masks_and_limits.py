"""Masked columns, and the row limit, of databases whose rows pass through Arrow."""

import hashlib
import hmac
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.declare import Append, Hashed, Masked, Merge, Replace, Rule, Sequence, Timestamp
from flows.kinds.databases import Table
from flows.values.errors import DeclarationError
from tests.conftest import TestDatabase
from tests.kinds.databases.loading import MISSING, load, raw, running_mariadb
from tests.kinds.everywhere import tables_with
from tests.kinds.loading import open_quarantine, setting

pytest.importorskip("adbc_driver_sqlite", reason="the extra `databases` is not installed")

KEY = "a key for hashes in tests, of 40 characters"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "till.db", isolation_level=None)
    connection.execute("create table people (id integer primary key, email text, phone text, band int, at datetime)")
    connection.executemany(
        "insert into people values (?, ?, ?, ?, ?)",
        [(n, f"p{n}@example.com", f"55501{n:02}", n % 7, f"2017-01-01 00:{n:02}:00") for n in range(1, 51)],
    )
    connection.execute("insert into people values (51, null, null, 1, '2017-01-01 00:51:00')")
    with setting(mask_key=KEY):
        yield connection
    connection.close()


def address(file: sqlite3.Connection) -> str:
    return f"sqlite:///{file.execute('pragma database_list').fetchone()[2]}"


PEOPLE = Table(
    "people",
    key="id",
    cursor=Timestamp("at"),
    load=Merge(),
    deletes=True,
    masked={"email": Hashed(), "phone": Masked(keep=2)},
    rules=(Rule("band_is_low", "band < 90"),),
    max_quarantined=0.5,
)


def hashed(text: str) -> str:
    return hmac.new(KEY.encode(), text.encode(), hashlib.sha256).hexdigest()


async def test_hashes_and_masks_are_loaded_instead_of_the_values(
    warehouse: TestDatabase, file: sqlite3.Connection
) -> None:
    result = await load(warehouse, address(file), PEOPLE, engine="sqlite")
    assert result.counts.reconciliation == "match"
    found = {row["id"]: (row["email"], row["phone"]) for row in raw(warehouse, "people")}
    assert found[7] == (hashed("p7@example.com"), "***07")
    assert found[51] == (None, None)


async def test_rows_that_do_not_fit_are_quarantined_as_they_would_be_loaded(
    warehouse: TestDatabase, file: sqlite3.Connection
) -> None:
    file.execute("update people set band = 'many' where id = 3")
    file.execute("update people set band = 99 where id = 4")
    file.execute("insert into people values (60, 'odd@example.com', x'00', 'none', '2017-01-01 01:00:00')")

    await load(warehouse, address(file), PEOPLE, engine="sqlite")

    assert len(open_quarantine(warehouse)) == 3
    assert tables_with(warehouse, "@example.com") == []
    assert tables_with(warehouse, hashed("odd@example.com")) != []


async def test_a_hashed_key_finds_changes_and_deletes(warehouse: TestDatabase, file: sqlite3.Connection) -> None:
    file.execute("delete from people where email is null")
    table = replace(PEOPLE, key="email")
    await load(warehouse, address(file), table, engine="sqlite")
    file.execute("update people set band = 5, at = '2017-01-02 00:00:00' where id = 1")
    file.execute("delete from people where id = 2")

    counts = (await load(warehouse, address(file), table, engine="sqlite")).counts

    assert (counts.rows_updated, counts.rows_deleted, counts.reconciliation) == (1, 1, "match")
    assert tables_with(warehouse, "@example.com") == []


async def test_another_key_is_noticed(warehouse: TestDatabase, file: sqlite3.Connection) -> None:
    await load(warehouse, address(file), PEOPLE, engine="sqlite")
    with (
        setting(mask_key="another key for hashes, of 40 characters"),
        pytest.raises(DeclarationError, match="the key of the hashes is another one"),
    ):
        await load(warehouse, address(file), PEOPLE, engine="sqlite")


@pytest.mark.parametrize(
    "declared",
    [
        {},
        {"cursor": None},
        {"cursor": None, "load": Replace(), "deletes": False},
        {"cursor": None, "load": Replace(), "deletes": False, "key": ()},
        {"cursor": Sequence("id"), "load": Append(), "deletes": False},
        {"cursor": Sequence("id"), "load": Append(), "deletes": False, "key": ()},
    ],
)
async def test_a_sample_is_followed_by_a_full_load(
    warehouse: TestDatabase, file: sqlite3.Connection, declared: dict[str, Any]
) -> None:
    table = replace(PEOPLE, **declared)
    with setting(row_limit=10):
        for _ in range(2):
            first = await load(warehouse, address(file), table, engine="sqlite")
            assert (first.counts.rows_read, first.counts.reconciliation) == (10, "limited")
            assert len(raw(warehouse, "people")) == 10
    file.execute("delete from people where id = 1")
    file.execute("update people set band = 6 where id = 2")

    result = await load(warehouse, address(file), table, engine="sqlite")

    assert result.counts.reconciliation == "match"
    live = {row["id"]: row["band"] for row in raw(warehouse, "people") if row["_deleted_at"] is None}
    assert live == dict(file.execute("select id, band from people").fetchall())
    if not table.keys:
        with setting(row_limit=10), pytest.raises(DeclarationError, match="raw has a full load"):
            await load(warehouse, address(file), table, engine="sqlite")


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
@pytest.mark.xdist_group("mariadb")
async def test_mariadb_reads_in_chunks_what_is_masked_and_limited(warehouse: TestDatabase) -> None:
    table = replace(PEOPLE, key="email", rules=(), masked={"email": Hashed(), "phone": Masked(keep=2)})
    with running_mariadb() as server, setting(mask_key=KEY):
        server.run(
            "create table people (id int, email varchar(40) primary key, phone varchar(20), band int, "
            "at timestamp(6) not null default now(6));"
            "insert into people select seq, concat('p', seq, '@example.com'), concat('5550', seq), 1, "
            "'2017-01-01' from seq_1_to_45000"
        )
        with setting(row_limit=30_000):
            first = await load(warehouse, server.url, table, engine="mysql")
        result = await load(warehouse, server.url, table, engine="mysql")
    assert (first.counts.rows_read, first.counts.reconciliation) == (30_000, "limited")
    assert (result.counts.rows_read, result.counts.reconciliation) == (45_000, "match")
    assert {row["email"] for row in raw(warehouse, "people") if row["id"] == 7} == {hashed("p7@example.com")}
    assert tables_with(warehouse, "@example.com") == []


@pytest.mark.parametrize("type_", ["boolean", "real", "datetime", "blob", "numeric"])
async def test_a_value_that_each_source_spells_in_its_own_way_is_not_hashed(
    warehouse: TestDatabase, file: sqlite3.Connection, type_: str
) -> None:
    """Its hash would join with no other source's."""
    file.execute(f"create table odd (id integer primary key, v {type_})")
    table = Table("odd", key="id", load=Merge(), masked={"v": Hashed()})
    with pytest.raises(DeclarationError, match="own spelling"):
        await load(warehouse, address(file), table, engine="sqlite")
