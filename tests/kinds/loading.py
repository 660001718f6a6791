"""Whole loads against the databases of a test, and what they left behind."""

import asyncio
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from flows.kinds.postgres import Database, Table
from flows.publish.session import LoadResult
from flows.sources.shop import shop as declared_shop
from flows.values.connection import DatabaseConnection
from flows.values.settings import settings
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.kinds.conformance import forking
from tests.sessions import Session, in_session

METADATA = ("_extracted_at", "_source_system", "_batch_id", "_deleted_at")
Row = dict[str, Any]

# Every statement commits by itself: `now()` must lie after the horizon of the load before.
CHANGES = (
    "update basket_items set sales_value = sales_value + 1, updated_at = now() where basket_item_id % 10 = 1",
    "update basket_items set quantity = -1, updated_at = now() where basket_item_id = 22",
    "insert into basket_items select 90000 + n, 31000000 + n, 25040, 3, 9.99, 0, 0, 0, now() "
    "from generate_series(1, 60) as n",
    "insert into basket_items values (99999, 31000030, 25039, -2, 1.5, 0, 0, 0, now())",
    "delete from basket_items where basket_item_id % 10 = 3 and basket_item_id < 90000",
)


def at(database: TestDatabase, role: str) -> DatabaseConnection:
    """The address as the loads want it."""
    return DatabaseConnection(database.name, database.url(role))


async def load(
    warehouse: TestDatabase, shop: TestDatabase, table: str | Table, source: Database = declared_shop, **options: Any
) -> LoadResult:
    """One load of one table, as the platform's roles."""
    declared = source.table(table) if isinstance(table, str) else table
    return await load_table(at(warehouse, "loader"), at(shop, "extractor"), source, declared, **options)


def load_in_a_process(
    warehouse: TestDatabase, shop: TestDatabase, table: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """The same in a process that may die."""
    return forking.run("tests.kinds.postgres.one_load", [table], {**addresses(warehouse, shop), **variables})


def addresses(warehouse: TestDatabase, shop: TestDatabase) -> Mapping[str, str]:
    """The variables that say where both ends are."""
    return {
        "MEDALLION_WAREHOUSE_URL": warehouse.url("loader"),
        "MEDALLION_WAREHOUSE_TRANSFORMER_URL": warehouse.url("transformer"),
        "MEDALLION_SOURCE_SHOP_URL": shop.url("extractor"),
    }


def change(database: TestDatabase, *statements: str, role: str = "app") -> None:
    """Run statements at the source, each in a transaction of its own."""

    def run(session: Session) -> None:
        for statement in statements:
            session.execute(statement.encode())

    in_session(database.url(role), "\n".join(statements), run)


def break_lines_of_unknown_products(shop: TestDatabase) -> None:
    """What a repair script does that bypasses foreign keys."""
    with psycopg.connect(shop.url("admin"), autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update basket_items set product_id = 1, updated_at = now() where basket_item_id = 31")


def rows(database: TestDatabase, query: str, role: str = "admin") -> list[Row]:
    """A query's rows as dictionaries."""

    def ask(session: Session) -> list[Row]:
        return session.cursor(row_factory=dict_row).execute(query.encode()).fetchall()

    return in_session(database.url(role), query, ask)


def raw_rows(warehouse: TestDatabase, table: str, schema: str = "raw_shop") -> list[str]:
    """Raw's rows as text, ordered, metadata and all: equal when nothing at all was written."""
    return [row["text"] for row in rows(warehouse, f"select r::text as text from {schema}.{table} as r order by 1")]


def raw_content(warehouse: TestDatabase, table: str, schema: str = "raw_shop") -> list[str]:
    """Raw's rows without what tells one load from another; deleted ones say so."""
    return [
        row["text"]
        for row in rows(
            warehouse,
            f"select (to_jsonb(r) - array['_extracted_at', '_batch_id'] "
            f"|| jsonb_build_object('_deleted_at', _deleted_at is not null))::text as text "
            f"from {schema}.{table} as r order by 1",
        )
    ]


def open_quarantine(warehouse: TestDatabase) -> list[Row]:
    """What stands in quarantine, without what tells one load from another."""
    return rows(
        warehouse,
        "select table_name, row_key, rule, row_data from quarantine.rows where resolved_at is null "
        "order by table_name, row_key::text",
    )


def loads(warehouse: TestDatabase) -> list[Row]:
    """The ledger of loads, oldest first."""
    return rows(warehouse, "select * from ops.loads order by batch_id")


def cursor(warehouse: TestDatabase, table: str) -> str | None:
    """The stored cursor of a table."""
    found = rows(warehouse, f"select cursor_value from ops.cursors where table_name = '{table}'")
    return found[0]["cursor_value"] if found else None


def landing_tables(warehouse: TestDatabase) -> list[str]:
    """Tables left in the landing schema."""
    return [row["relname"] for row in rows(warehouse, "select relname from pg_class where relkind = 'r' "
            "and relnamespace = 'landing'::regnamespace order by 1")]  # fmt: skip


def repeated_keys(warehouse: TestDatabase, table: str, key: str) -> int:
    """Keys that stand in raw more than once."""
    with psycopg.connect(warehouse.url("admin")) as connection:
        query = sql.SQL("select count(*) - count(distinct {}) from raw_shop.{}")
        row = connection.execute(query.format(sql.Identifier(key), sql.Identifier(table))).fetchone()
    assert row is not None
    return int(row[0])


async def until_it_waits_for_a_lock(warehouse: TestDatabase, table: str) -> None:
    """Until a load of the table stands in a queue."""
    waits = (
        "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database() "
        f"and application_name = 'medallion load shop.{table}'"
    )
    async with asyncio.timeout(20):
        while not rows(warehouse, waits):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@contextmanager
def setting(**values: object) -> Iterator[None]:
    """Settings of the platform for as long as the block lasts."""
    before = {name: os.environ.get(f"MEDALLION_{name.upper()}") for name in values}
    os.environ.update({f"MEDALLION_{name.upper()}": str(value) for name, value in values.items()})
    settings.cache_clear()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[f"MEDALLION_{name.upper()}"]
            else:
                os.environ[f"MEDALLION_{name.upper()}"] = value
        settings.cache_clear()
