"""The independent look at the invariants: all is well in a warehouse filled by hand, until it is broken by hand."""

import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

import infra.gameday
from flows.access import addresses
from flows.state import ledger
from flows.values.connection import DatabaseConnection
from infra.gameday.api import GameApi
from infra.gameday.database import Database
from infra.gameday.invariants import Reader, broken
from infra.gameday.world import World
from infra.gameday.writer import Writer
from infra.local.postgres import Cluster
from tests.conftest import TestDatabase

pytestmark = pytest.mark.xdist_group("gameday invariants")

_LOADED = """
create schema raw_game;
create schema raw_gameapi;
create table raw_game.events (event_id bigint, note text, _batch_id bigint, _deleted_at timestamptz);
create table raw_game.accounts
(account_id bigint, holder text, balance numeric, _batch_id bigint, _deleted_at timestamptz);
create table raw_game.prices
(price_id bigint, version bigint, amount numeric, label text, _batch_id bigint, _deleted_at timestamptz);
create table raw_gameapi.items (id bigint, payload jsonb, _batch_id bigint, _deleted_at timestamptz);
"""
#: In the order of `_FIRST`: the batch that loaded it, its name, and how many rows it has.
_TABLES = {"events": 300, "accounts": 300, "prices": 50}
_LOAD = (
    "insert into ops.loads (source_system, table_name, strategy, status, rows_read, rows_inserted, rows_updated, "
    "rows_unchanged, rows_deduplicated, rows_quarantined, rows_deleted) "
    "values (%s, %s, 'merge', 'published', %s, %s, 0, 0, 0, 0, 0) returning batch_id"
)


@pytest.fixture
async def looking(warehouse: TestDatabase, shop: TestDatabase) -> tuple[World, Writer]:
    async with addresses.connect(
        DatabaseConnection("warehouse", warehouse.url("loader")), side="warehouse"
    ) as connection:
        await ledger.ensure_schema(connection)
    source, target = (
        Database(Cluster(Path("unused")), each.name, each.cluster.passwords, each.cluster.port)
        for each in (shop, warehouse)
    )
    with source.session() as connection:
        connection.execute((Path(infra.gameday.__file__).parent / "source.sql").read_bytes())
    writer = Writer(source, GameApi("key"), random.Random(1))
    writer.read()
    with source.session() as read, target.session() as write:
        write.execute(_LOADED)
        for table, columns in {
            "events": "event_id, note",
            "accounts": "account_id, holder, balance",
            "prices": "price_id, version, amount, label",
        }.items():
            rows = read.execute(f"select {columns} from {table}").fetchall()
            batch = _load(write, "game", table, len(rows))
            with write.cursor().copy(f"copy raw_game.{table} ({columns}, _batch_id) from stdin") as copy:
                for row in rows:
                    copy.write_row((*row, batch))
        batch = _load(write, "gameapi", "items", len(writer.ledger.items))
        for key in writer.ledger.items:
            write.execute("insert into raw_gameapi.items values (%s, jsonb_build_object('stock', 0), %s)", [key, batch])
        write.execute(
            "insert into ops.cursors (source_system, table_name, cursor_value, batch_id) "
            "select 'game', 'events', max(event_id)::text, 1 from raw_game.events"
        )
    return cast(World, SimpleNamespace(source=source, warehouse=target)), writer


def _load(write: "psycopg.Connection[Any]", source: str, table: str, rows: int) -> int:
    """A load of so many rows, and one after it without news."""
    row = write.execute(_LOAD, [source, table, rows, rows]).fetchone()
    if table != "accounts":  # the reader compares the last load of accounts with what it left in raw
        write.execute(_LOAD, [source, table, 0, 0])
    assert row is not None
    return int(row[0])


@pytest.fixture
def reader(looking: tuple[World, Writer]) -> Iterator[Reader]:
    reader = Reader(looking[0].warehouse, looking[1])
    yield reader
    reader.stop()


_NEWS = "insert into ops.loads (source_system, table_name, strategy, status, rows_read, rows_inserted, rows_updated, "
_NEWS += "rows_unchanged, rows_deduplicated, rows_quarantined) select 'game', 'accounts', 'merge', 'published', "


async def test_all_hold_while_both_ends_have_the_same(looking: tuple[World, Writer]) -> None:
    world, writer = looking
    world.warehouse.rows(_NEWS + "0, 0, 0, 0, 0, 0 returning 1")
    assert broken(world, writer) == {"I1": [], "I2": [], "I3": [], "I4": [], "I5": []}


@pytest.mark.parametrize(
    ("behind_its_back", "invariants"),
    [
        ("delete from raw_game.events where event_id = 7 returning 1", ["I1", "I3"]),
        ("update raw_game.accounts set balance = 1 where account_id = 7 returning 1", ["I1"]),
        ("update raw_game.prices set _deleted_at = now() where price_id = 7 returning 1", ["I1"]),
        ("insert into raw_gameapi.items values (-1, '{}', 1) returning 1", ["I1"]),
        ("insert into raw_game.events select * from raw_game.events where event_id = 7 returning 1", ["I2"]),
        (_NEWS + "3, 2, 0, 1, 0, 0 returning 1", ["I5"]),
    ],
)
async def test_what_is_changed_behind_the_platforms_back_breaks_an_invariant(
    looking: tuple[World, Writer], behind_its_back: str, invariants: list[str]
) -> None:
    world, writer = looking
    world.warehouse.rows(_NEWS + "0, 0, 0, 0, 0, 0 returning 1")
    world.warehouse.rows(behind_its_back)
    assert [name for name, found in broken(world, writer).items() if found] == invariants


async def test_a_load_whose_counts_do_not_add_up_breaks_an_invariant(looking: tuple[World, Writer]) -> None:
    world, writer = looking
    with world.warehouse.session() as connection:
        connection.execute("alter table ops.loads drop constraint every_row_is_accounted_for")
    world.warehouse.rows(_NEWS + "1, 0, 0, 0, 0, 0 returning 1")
    assert [name for name, found in broken(world, writer).items() if found] == ["I4"]


async def test_a_row_that_was_deleted_at_the_source_is_to_be_marked(looking: tuple[World, Writer]) -> None:
    world, writer = looking
    world.warehouse.rows(_NEWS + "0, 0, 0, 0, 0, 0 returning 1")
    with writer.transaction() as connection:
        connection.execute("delete from accounts where account_id = 1001")
    assert broken(world, writer)["I1"]
    world.warehouse.rows("update raw_game.accounts set _deleted_at = now() where account_id = 1001 returning 1")
    assert not broken(world, writer)["I1"]


async def test_a_row_in_quarantine_is_neither_missing_nor_of_other_content(looking: tuple[World, Writer]) -> None:
    world, writer = looking
    world.warehouse.rows(_NEWS + "0, 0, 0, 0, 0, 0 returning 1")
    with writer.transaction() as connection:
        connection.execute("update accounts set balance = -1 where account_id = 1001")
    assert broken(world, writer)["I1"]
    world.warehouse.rows(
        "insert into quarantine.rows (batch_id, source_system, table_name, row_key, rule, row_data, row_hash) "
        """values (1, 'game', 'accounts', '{"account_id": 1001}', 'balance_not_negative', '{}', 'x') returning 1"""
    )
    assert not broken(world, writer)["I1"]


@pytest.mark.parametrize(
    ("partial", "seen"),
    [
        ("update raw_game.prices set version = 1 where price_id < 7 returning 1", "prices of two versions"),
        ("delete from raw_game.events where event_id = 7 returning 1", "a batch of events with other rows"),
        ("delete from raw_game.accounts where account_id = 7 returning 1", "a batch of accounts with other rows"),
        ("update ops.cursors set cursor_value = '900' where table_name = 'events' returning 1", "a cursor ahead"),
    ],
)
async def test_a_reader_sees_a_load_of_which_only_a_part_is_there(
    looking: tuple[World, Writer], reader: Reader, partial: str, seen: str
) -> None:
    world, writer = looking
    writer.ledger.events[800] = "committed, and not loaded yet"
    with world.warehouse.session() as connection:
        reader.look(connection)
        assert reader.seen == []
        connection.execute(partial)
        reader.look(connection)
    assert any(seen in found for found in reader.seen)
