"""PostgreSQL as a source: columns, counts, and rows as bytes.

Every function takes an open connection of the caller; the rows' bytes pass through and are never decoded.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from flows.declare.table import Table
from flows.kinds.postgres.masks import masked, refuse_old_server
from flows.kinds.postgres.money import money_decimals
from flows.kinds.postgres.queries import query_columns, table_columns
from flows.kinds.postgres.refusals import refuse_condition, refuse_shape, refuse_unreadable
from flows.kinds.postgres.undecodable import UNCHECKED, undecodable
from flows.values.identifiers import qualified, quote_identifier
from flows.values.plan import KeySet
from flows.values.shape import Column, Shape, fingerprint

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Chunks in flight between reader and writer. asyncpg returns about 64 kB at a time: 16 limit a load to 1 MB.
_CHUNKS_IN_FLIGHT = 16

# Types of pg_catalog whose binary form is valid only inside their own server, or that have none.
_LOCAL_TYPES = frozenset(
    (
        *("aclitem", "cid", "pg_node_tree", "refcursor", "regclass", "regcollation", "regconfig", "regdictionary"),
        *("regnamespace", "regoper", "regoperator", "regproc", "regprocedure", "regrole", "regtype", "tid", "xid"),
    )
)

# PostgreSQL cuts names after 63 bytes.
_LONGEST_NAME = 63


async def describe(connection: Connection[Record], source: str, raw_schema: str, table: Table) -> Shape:
    """The table's columns in raw.

    Built-in types keep their name; an enum becomes an enum of raw's schema with the same labels; a domain over a
    built-in type becomes that type; anything else is loaded as text.

    Raises:
        SourceError: the table does not exist, is hidden from our role or a part of it, or does not fit into raw; see
            `refusals`.
    """
    where = f"{source}.{table.name}"
    found = await (query_columns(connection, table, where) if table.query else table_columns(connection, table))
    await refuse_unreadable(connection, found, table, where)
    records = [record for record in found if table.reads(record["name"])]
    decimals = await money_decimals(connection, where) if any(_is_money(record) for record in records) else 2
    refuse_old_server(connection, table, where)
    columns = tuple(_declared(record, table, _column(record, raw_schema, decimals)) for record in records)
    unchecked = undecodable(columns) if found[0]["encoding"] == UNCHECKED else ""
    shape = Shape(columns, int(found[0]["estimated_rows"]), undecodable=unchecked)
    refuse_shape(shape, table, where, [record["name"] for record in found])
    if table.where:
        await refuse_condition(connection, table, where)
    return shape


def _declared(record: Record, table: Table, column: Column) -> Column:
    """The column as it is declared to be loaded."""
    if mask := table.masked.get(column.name):
        return masked(column, mask, record["encoding"])
    return _as_text(record) if column.name in table.as_text else column


def _is_money(record: Record) -> bool:
    return record["type_name"] in ("money", "_money") or (record["base_type"] or "").startswith("money")


def _column(record: Record, raw_schema: str, decimals: int = 2) -> Column:
    name = record["name"]
    quoted = quote_identifier(name)
    if decimals != 2 and _is_money(record):
        # Its bytes are a number of the smallest unit: 1234 yen would be 12.34 in the warehouse.
        kind = f"numeric{'[]' if record['type'].endswith('[]') else ''}"
        return Column(name, kind, f"{quoted}::{kind}", record["nullable"])
    if record["kind"] == "e":
        enum = _enum_name(record)
        return Column(
            name,
            qualified(raw_schema, enum),
            quoted,
            record["nullable"],
            enum=enum,
            labels=tuple(record["labels"]),
        )
    if record["built_in"] and record["type_name"].removeprefix("_") not in _LOCAL_TYPES:
        return Column(name, record["type"], quoted, record["nullable"])
    if record["base_built_in"]:
        return Column(name, record["base_type"], f"{quoted}::{record['base_type']}", record["nullable"])
    return _as_text(record)


def _as_text(record: Record) -> Column:
    return Column(record["name"], "text", f"{quote_identifier(record['name'])}::text", record["nullable"])


def _enum_name(record: Record) -> str:
    """Its name in raw's schema: that of the source, or with its schema in front: `audit__status`."""
    if not record["name_is_taken"]:
        return str(record["type_name"])
    name = f"{record['type_schema']}__{record['type_name']}"
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    # Cut by characters of up to four bytes, with a digest of the whole.
    return f"{name[:12]}__x{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def select_rows(table: Table, shape: Shape, condition: str, limit: int | None = None) -> str:
    """The query for the source's rows, in raw's types; without those that raw cannot have. `limit`: so many at most."""
    columns = ", ".join(column.select for column in shape.columns)
    if shape.undecodable:
        condition = f"({condition}) and not ({shape.undecodable})"
    some = "" if limit is None else f" limit {limit}"
    return f"select {columns} from {table.relation} where {table.within(condition)}{some}"


def select_keys(table: Table, shape: Shape, condition: str) -> str:
    """The query for the keys of the source's rows under the condition; without those that raw cannot have."""
    keys = [column for name in table.compared_by if (column := shape.column(name))]
    if shape.undecodable and (unfit := undecodable(keys)):
        condition = f"({condition}) and not ({unfit})"
    return f"select {', '.join(key.select for key in keys)} from {table.relation} where {table.within(condition)}"


# Only indexes that contain every row, and enforce at each statement's end what they promise.
_UNIQUE = """
select exists (
    select from pg_index as i
    where i.indrelid = to_regclass($1) and i.indisunique and i.indisvalid and i.indimmediate
        and i.indpred is null and i.indexprs is null and i.indnkeyatts > 0
        and (
            select array_agg(a.attname::text) from unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
            inner join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
            where k.place <= i.indnkeyatts
        ) <@ $2::text[]
)
-- An index of a table does not see the rows of tables that inherit from it; one of a partitioned table does.
and not exists (
    select from pg_inherits as h inner join pg_class as c on h.inhparent = c.oid
    where c.oid = to_regclass($1) and c.relkind <> 'p'
)
"""


async def key_is_unique(connection: Connection[Record], table: Table) -> bool:
    """Whether a unique index at the source forbids two rows with one key."""
    if not table.keys:
        return False
    return bool(await connection.fetchval(_UNIQUE, table.catalogued, list(table.keys)))


async def key_set(connection: Connection[Record], table: Table, shape: Shape, condition: str = "true") -> KeySet:
    """Rows of the source table under the condition and a fingerprint of their keys, in the connection's snapshot.

    One scan by one process, while the warehouse writes: the source's other cores are its applications'. Asked for one
    row only, as by `fetchrow`, PostgreSQL uses no parallel workers.
    """
    keys = [column.select for name in table.compared_by if (column := shape.column(name))]
    mark = fingerprint(keys) if keys else "null::numeric"
    row = await connection.fetchrow(
        f"select count(*) as rows, {mark} as mark from {table.relation} where {table.within(condition)}"
    )
    assert row is not None  # an aggregate always answers one row
    return KeySet(row["rows"], row["mark"])


async def count(connection: Connection[Record], table: Table, condition: str = "true", limit: int | None = None) -> int:
    """Rows of the source table under the condition. `limit`: counting ends there."""
    within = f"from {table.relation} where {table.within(condition)}"
    query = f"select count(*) {within}"
    if limit is not None:
        query = f"select count(*) from (select 1 {within} limit {limit}) as limited"
    return int(await connection.fetchval(query))


async def has_value_outside(connection: Connection[Record], table: Table, columns: list[str], condition: str) -> bool:
    """Whether a row outside the condition holds a value in one of the columns.

    A column added with a default, or filled without changing the cursor, has values in rows that a read by cursor
    would not find.
    """
    filled = " or ".join(f"{quote_identifier(name)} is not null" for name in columns)
    outside = table.within(f"({filled}) and ({condition}) is not true")
    return bool(await connection.fetchval(f"select exists (select from {table.relation} where {outside})"))


class CopyStream:
    """The rows of a query in COPY's binary format, as an async iterator of chunks.

    After the last chunk, it has `ended`, `rows` is the source's own count and `bytes` the volume read. `before`: bytes
    of earlier streams of the same load.
    """

    def __init__(self, connection: Connection[Record], query: str, before: int = 0) -> None:
        self.before = before
        self._connection = connection
        self._query = query
        self.rows = 0
        self.bytes = 0
        self.ended = False

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_CHUNKS_IN_FLIGHT)

        async def read() -> None:
            try:
                status = await self._connection.copy_from_query(self._query, output=queue.put, format="binary")
                self.rows = int(status.split()[-1])
            except asyncio.CancelledError:
                raise  # the consumer has stopped: putting one more into a full queue would wait forever
            except BaseException:
                await queue.put(None)
                raise
            await queue.put(None)

        reader = asyncio.create_task(read())
        try:
            while (chunk := await queue.get()) is not None:
                self.bytes += len(chunk)
                yield chunk
            await reader
            self.ended = True
        finally:
            if not reader.done():
                reader.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await reader
