"""Small shared schemas whose every row tells the release it belongs to, made as the transformer makes them.

forking.run("tests.models.shadowing", ["release", "2"], …)     exchanges in a process that a failpoint may kill
"""

import asyncio
import sys
from collections.abc import Sequence

import psycopg

from flows.access import addresses
from flows.access.addresses import connect
from flows.failures.failpoints import pass_failpoint
from flows.models import shadow, swap
from flows.models.swap import Swapped
from flows.values.connection import DatabaseConnection
from flows.values.settings import settings
from tests.conftest import TestDatabase

SHARED = ("gold", "silver")
# Two tables, a partitioned one and views of both kinds, in gold; a table in silver.
_TABLES = """
create table {p}silver.s as select {n} as release from generate_series(1, 10);
create table {p}gold.a as select {n} as release from generate_series(1, 10);
create table {p}gold.b as select {n} as release from generate_series(1, 10);
create table {p}gold.f (release integer, sold_on date) partition by range (sold_on);
create table {p}gold.f_p1 partition of {p}gold.f for values from ('2026-01-01') to ('2026-02-01');
insert into {p}gold.f select {n}, '2026-01-05';
create view {p}gold.v as select release from {p}gold.b;
create materialized view {p}gold.m as select release from {p}gold.a;
"""
EVERYTHING = (
    "select array_agg(distinct release) from (select release from gold.a union all "
    + " union all ".join(f"select release from gold.{name}" for name in ("b", "f", "m", "v"))
    + ") as held"
)


def transformer(database: TestDatabase) -> DatabaseConnection:
    return DatabaseConnection("warehouse", database.url("transformer"))


def build_in_place(database: TestDatabase, number: int) -> None:
    """What an ordinary build leaves."""
    _run(database, _TABLES.format(p="", n=number))


def build_beside(database: TestDatabase, number: int) -> None:
    """What a release is before the exchange."""

    async def prepared() -> None:
        async with connect(transformer(database), side="warehouse") as warehouse:
            await shadow.prepare(warehouse, SHARED)

    asyncio.run(prepared())
    _run(database, _TABLES.format(p=shadow.NEXT, n=number))


async def release(address: DatabaseConnection, number: int, wait_seconds: float = 20) -> Swapped:
    async with connect(address, side="warehouse") as warehouse:
        return await swap.release(
            warehouse, SHARED, {"release": number}, wait_seconds=wait_seconds,
            pass_failpoint=lambda name: pass_failpoint(name, settings().failpoint),
        )  # fmt: skip


async def roll_back(address: DatabaseConnection, wait_seconds: float = 20) -> Swapped:
    async with connect(address, side="warehouse") as warehouse:
        return await swap.roll_back(
            warehouse, wait_seconds=wait_seconds,
            pass_failpoint=lambda name: pass_failpoint(name, settings().failpoint),
        )  # fmt: skip


def held(database: TestDatabase, role: str = "reader") -> Sequence[int]:
    """The releases that readers see in gold, each once."""
    with psycopg.connect(database.url(role)) as connection:
        row = connection.execute(EVERYTHING.encode()).fetchone()
    assert row is not None
    return sorted(row[0])


def schemas(database: TestDatabase) -> set[str]:
    """Our schemas of whatever colour."""
    with psycopg.connect(database.url("admin")) as connection:
        rows = connection.execute(
            "select nspname from pg_namespace where nspname ~ '(gold|silver)$' or nspname ~ '__'"
        ).fetchall()
    return {name for (name,) in rows}


def _run(database: TestDatabase, sql: str) -> None:
    with psycopg.connect(database.url("transformer")) as connection:
        connection.execute(sql.encode())


def main() -> None:
    """Exchange as the arguments say."""
    address = addresses.warehouse("transformer")
    if sys.argv[1] == "release":
        asyncio.run(release(address, int(sys.argv[2])))
    else:
        asyncio.run(roll_back(address))
