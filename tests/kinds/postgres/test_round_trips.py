"""How often a load of a table in which nothing changed asks the servers: most of its time, with hundreds of tables."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from flows.access import kept_sessions
from flows.access.addresses import connect
from flows.access.kept_sessions import keeping_sessions
from flows.declare import Append, Merge, Replace, Sequence, Timestamp
from flows.kinds.postgres import Database, Table
from flows.publish.session import LoadResult
from flows.values.connection import DatabaseConnection
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.publish.two_ends import TwoEnds

CURSOR = Timestamp("updated_at", lag="10 min")
COLUMNS = "id bigint primary key, code text, amount numeric(12, 2), updated_at timestamptz not null"
FILL = "select n, 'code ' || n, n, timestamptz '2024-01-01 00:00:00+00' from generate_series(1, 20) as n"


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """What is sent over sockets within: asyncpg sends each request in one piece."""
    sent: list[bytes] = []
    kind = asyncio.selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
    write = kind.write

    def noted(transport: asyncio.Transport, data: bytes) -> None:
        sent.append(bytes(data))
        write(transport, data)

    with monkeypatch.context() as patched:
        patched.setattr(kind, "write", noted)
        yield sent


async def load(ends: TwoEnds, table: Table) -> LoadResult:
    declared = Database("shop", connection="shop", tables=[table])
    return await load_table(ends.warehouse_address, ends.shop_address, declared, table)


# Before, 85, 85, 86 and 70. Lower a bound with what you save; whoever adds a round trip adds it to each table and run.
@pytest.mark.parametrize(
    ("declared", "at_most"),
    [
        (Table("few", key="id", cursor=CURSOR, load=Merge()), 39),
        (Table("few", key="id", cursor=CURSOR, load=Merge(), deletes=True), 39),
        (Table("few", key="id", cursor=Sequence("id"), load=Append()), 41),
        (Table("few", key="id", load=Replace()), 37),
    ],
    ids=["merge", "deletes", "append", "replace"],
)
async def test_an_unchanged_table_takes_few_round_trips(
    warehouse: TestDatabase, shop: TestDatabase, declared: Table, at_most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_sessions, "_LINGER_SECONDS", 60.0)
    ends = TwoEnds(warehouse, shop)
    tables = [replace(declared, name=f"{declared.name}_{number}") for number in range(4)]
    for table in tables:
        ends.source(f"create table {table.name} ({COLUMNS})")
        ends.source(f"insert into {table.name} {FILL}")
        ends.source("select pg_stat_force_next_flush()")
        await ends.load(table)
    async with keeping_sessions():
        # By the third table of a run, its sessions have prepared what they are asked for each.
        for table in tables[:2]:
            await load(ends, table)
        with counted(monkeypatch) as sent:
            await load(ends, tables[2])
        with counted(monkeypatch) as again:
            found = await load(ends, tables[3])
        # What the source counts of writes may come late on a busy machine, and is then asked about once more.
        sent = min(sent, again, key=len)
    assert (found.counts.reconciliation, found.counts.rows_inserted, found.counts.rows_updated) == ("match", 0, 0)
    assert len(sent) <= at_most, "\n".join(map(str, sent))
    assert ends.raw("select count(*) from pg_class where relnamespace = 'landing'::regnamespace") == [(0,)]


async def test_each_statement_counts(warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what is sent is seen, a statement without parameters once."""
    address = DatabaseConnection("warehouse", warehouse.url("loader"))
    async with connect(address, side="warehouse") as session:
        with counted(monkeypatch) as sent:
            for _ in range(3):
                await session.execute("select 1")
    assert len(sent) == 3
