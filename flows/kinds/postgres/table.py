"""PostgreSQL as a source: columns, counts, and rows as bytes.

Every function takes an open connection of the caller; the rows' bytes pass through and are never decoded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from flows.declare.database import Table
from flows.declare.load import Overwrite
from flows.values.errors import SourceError
from flows.values.identifiers import qualified, quote_identifier
from flows.values.plan import KeySet
from flows.values.shape import METADATA_NAMES, Column, Shape, fingerprint

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

_COLUMNS = """
select
    a.attname as name,
    format_type(a.atttypid, a.atttypmod) as type,
    t.typname as type_name,
    t.typtype::text as kind,
    tn.nspname = 'pg_catalog' as built_in,
    case when t.typtype = 'd' then format_type(t.typbasetype, t.typtypmod) end as base_type,
    coalesce(bn.nspname = 'pg_catalog' and b.typtype = 'b', false) as base_built_in,
    not a.attnotnull as nullable,
    case when t.typtype = 'e' then array(
        select e.enumlabel::text from pg_enum as e where e.enumtypid = t.oid order by e.enumsortorder
    ) end as labels,
    c.reltuples::bigint as estimated_rows
from pg_attribute as a
inner join pg_class as c on a.attrelid = c.oid
inner join pg_type as t on a.atttypid = t.oid
inner join pg_namespace as tn on t.typnamespace = tn.oid
left join pg_type as b on t.typbasetype = b.oid
left join pg_namespace as bn on b.typnamespace = bn.oid
where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped
order by a.attnum
"""


async def describe(connection: Connection[Record], source: str, raw_schema: str, table: Table) -> Shape:
    """The table's columns in raw.

    Built-in types keep their name; an enum becomes an enum of raw's schema with the same labels; a domain over a
    built-in type becomes that type; anything else is loaded as text.

    Raises:
        SourceError: the table does not exist or is not visible; a declared column is missing; or a column has the name
            of one of raw's metadata columns.
    """
    records = await connection.fetch(_COLUMNS, qualified(table.schema, table.name))
    where = f"{source}.{table.name}"
    if not records:
        raise SourceError(
            f"table {table.schema}.{table.name} does not exist or is not readable",
            where=where,
            fix=f"check the name in flows/sources, and grant select on it to {await _user(connection)}",
        )
    shape = Shape(tuple(_column(record, raw_schema) for record in records), int(records[0]["estimated_rows"]))
    missing = [name for name in table.named_columns if shape.column(name) is None]
    if missing:
        what = "key, cursor or partition" if isinstance(table.load, Overwrite) else "key or cursor"
        raise SourceError(
            f"the declared {what} column {', '.join(missing)} is not in the table",
            where=where,
            fix="correct the declaration in flows/sources, or ask the source's owner about the column",
        )
    if taken := sorted(set(shape.names) & set(METADATA_NAMES)):
        raise SourceError(
            f"the table has a column {', '.join(taken)}, which is reserved for raw's metadata",
            where=where,
            fix="create a view at the source that renames the column, and declare the view",
        )
    return shape


def _column(record: Record, raw_schema: str) -> Column:
    name = record["name"]
    quoted = quote_identifier(name)
    if record["kind"] == "e":
        enum = record["type_name"]
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
    return Column(name, "text", f"{quoted}::text", record["nullable"])


async def _user(connection: Connection[Record]) -> str:
    return str(await connection.fetchval("select current_user"))


def select_rows(table: Table, shape: Shape, condition: str) -> str:
    """The query for the source's rows, in raw's types."""
    columns = ", ".join(column.select for column in shape.columns)
    return f"select {columns} from {qualified(table.schema, table.name)} where {condition}"


def select_keys(table: Table, shape: Shape, condition: str) -> str:
    """The query for the keys of the source's rows under the condition."""
    columns = ", ".join(column.select for name in table.compared_by if (column := shape.column(name)))
    return f"select {columns} from {qualified(table.schema, table.name)} where {condition}"


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
    return bool(await connection.fetchval(_UNIQUE, qualified(table.schema, table.name), list(table.keys)))


async def key_set(connection: Connection[Record], table: Table, shape: Shape, condition: str = "true") -> KeySet:
    """Rows of the source table under the condition and a fingerprint of their keys, in the connection's snapshot.

    One scan; PostgreSQL shares it among its parallel workers.
    """
    keys = [column.select for name in table.compared_by if (column := shape.column(name))]
    mark = fingerprint(keys) if keys else "null::numeric"
    row = await connection.fetchrow(
        f"select count(*) as rows, {mark} as mark from {qualified(table.schema, table.name)} where {condition}"
    )
    assert row is not None  # an aggregate always answers one row
    return KeySet(row["rows"], row["mark"])


async def count(connection: Connection[Record], table: Table, condition: str = "true") -> int:
    """Rows of the source table under the condition."""
    query = f"select count(*) from {qualified(table.schema, table.name)} where {condition}"
    return int(await connection.fetchval(query))


async def has_value_outside(connection: Connection[Record], table: Table, columns: list[str], condition: str) -> bool:
    """Whether a row outside the condition holds a value in one of the columns.

    A column added with a default, or filled without changing the cursor, has values in rows that a read by cursor
    would not find.
    """
    filled = " or ".join(f"{quote_identifier(name)} is not null" for name in columns)
    return bool(
        await connection.fetchval(
            f"select exists (select from {qualified(table.schema, table.name)} "
            f"where ({filled}) and ({condition}) is not true)"
        )
    )


class CopyStream:
    """The rows of a query in COPY's binary format, as an async iterator of chunks.

    After the last chunk, `rows` is the source's own count and `bytes` the volume read.
    """

    def __init__(self, connection: Connection[Record], query: str) -> None:
        self._connection = connection
        self._query = query
        self.rows = 0
        self.bytes = 0

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
        finally:
            if not reader.done():
                reader.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await reader
