"""Quarantined rows that the source still has, by their digest or by their key.

Such a row is withheld from raw: open, or fixed by hand or discarded by a person, until another version of it arrives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flows.declare.partition import Partition
from flows.values.checksum import Key, key_among
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.plan import KeySet
from flows.values.shape import fingerprint
from flows.values.table_name import TableName

if TYPE_CHECKING:
    from asyncpg import Connection, Record


#: The rule of rows whose key another row at the source has as well.
KEY_NOT_UNIQUE = "key_not_unique"
#: The resolution of rows of which raw has a version that a person made.
FIXED_BY_HAND = "fixed by hand"
#: The resolution of rows that a person does not want in raw.
DISCARDED = "discarded"
#: The resolution of rows that are in raw as they were quarantined.
REPLAYED = "replayed"
#: SQL over `quarantine.rows as q`, without a key: raw has no version of the row.
_NOT_IN_RAW = f"q.resolution is distinct from '{FIXED_BY_HAND}'"


def released(resolution: str) -> str:
    """SQL to update `quarantine.rows as q`: the source no longer has this version. `resolution` is SQL.

    What a person decided about the row before is kept.
    """
    return (
        "released_at = clock_timestamp(), resolved_at = coalesce(q.resolved_at, clock_timestamp()), "
        f"resolution = coalesce(q.resolution, {resolution})"
    )


def same_key(keys: Mapping[str, str], alias: str, *, nulls: bool = False) -> str:
    """SQL over `quarantine.rows as q`: the row of `alias` has its key. `keys` maps the key's columns to their types.

    The quarantined key is cast to the column's type, so that a few rows find their match by the primary key. With
    `nulls`, a null equals a null.
    """
    equals = "is not distinct from" if nulls else "="
    return " and ".join(
        f"{alias}.{quote_identifier(key)} {equals} (q.row_key ->> {quote_literal(key)})::{kind}"
        for key, kind in keys.items()
    )


async def open_digests(connection: Connection[Record], digests: Sequence[str], *, table: TableName) -> set[str]:
    """The digests of unchanged quarantined rows, also of those of which raw has a version fixed by hand."""
    records = await connection.fetch(
        "select distinct row_hash from quarantine.rows where source_system = $1 and table_name = $2 "
        "and withheld and row_hash = any($3::text[])",
        table.source,
        table.name,
        list(digests),
    )
    return {record["row_hash"] for record in records}


async def keys_fixed_by_hand(connection: Connection[Record], names: Mapping[str, str], *, table: TableName) -> set[Key]:
    """Keys, as texts, of rows that the source has in a form that raw cannot have, and raw as a person fixed them."""
    typed = ", ".join(f"((q.row_key ->> {quote_literal(name)})::{kind})::text" for name, kind in names.items())
    records = await connection.fetch(
        f"select array[{typed}] as key from quarantine.rows as q where q.source_system = $1 and q.table_name = $2 "
        f"and q.withheld and q.resolution = '{FIXED_BY_HAND}' and q.row_data ? 'text' and q.row_key is not null",
        table.source,
        table.name,
    )
    return {tuple(record["key"]) for record in records}


async def count_open_keys(
    connection: Connection[Record], raw: str, names: Mapping[str, str], keys: Sequence[Key], *, table: TableName
) -> int:
    """The keys that are quarantined and have no live row in raw. `names` maps key columns to their types."""
    typed = [f"(q.row_key ->> {quote_literal(name)})::{kind}" for name, kind in names.items()]
    same = " and ".join(f"r.{quote_identifier(name)} = {value}" for name, value in zip(names, typed, strict=True))
    return int(
        await connection.fetchval(
            "select count(distinct q.row_key) from quarantine.rows as q "
            "where q.source_system = $1 and q.table_name = $2 and q.withheld "
            f"and {key_among(typed, list(names.values()), keys)} "
            f"and not exists (select from {raw} as r where r._deleted_at is null and {same})",
            table.source,
            table.name,
        )
    )


#: The rules with the prefix $3 under which rows of the source $1 and its table $2 are quarantined.
OPEN_RULES = (
    "select distinct rule from quarantine.rows where source_system = $1 and table_name = $2 "
    "and withheld and starts_with(rule, $3)"
)


async def open_rules(connection: Connection[Record], prefix: str, *, table: TableName) -> set[str]:
    """The suffixes of rule names with this prefix under which rows of the table are quarantined."""
    records = await connection.fetch(OPEN_RULES, table.source, table.name, prefix)
    return {record["rule"].removeprefix(prefix) for record in records}


def document_within(column: str, kind: str, condition: str) -> str:
    """SQL over `quarantine.rows as q`: a condition over `column`, of that type, selects the row.

    A value that is invalid for the type, or missing in the document, counts as null.
    """
    value = f"q.row_data ->> {quote_literal(column)}"
    typed = f"case when pg_input_is_valid({value}, {quote_literal(kind)}) then ({value})::{kind} end"
    return f"exists (select from (select {typed} as {quote_identifier(column)}) as w where {condition})"


async def open_keys_not_landed(
    connection: Connection[Record], landing: str, names: Mapping[str, str], within: str, *, table: TableName
) -> list[Key]:
    """Keys of quarantined rows that the landing table does not have. `within` is SQL over `quarantine.rows as q`."""
    typed = [f"(q.row_key ->> {quote_literal(name)})::{kind}" for name, kind in names.items()]
    same = " and ".join(f"l.{quote_identifier(name)} = {value}" for name, value in zip(names, typed, strict=True))
    known = " and ".join(f"q.row_key ->> {quote_literal(name)} is not null" for name in names)
    records = await connection.fetch(
        f"select distinct array[{', '.join(f'{value}::text' for value in typed)}] as key from quarantine.rows as q "
        f"where q.source_system = $1 and q.table_name = $2 and q.withheld and {known} and {within} "
        f"and not exists (select from {landing} as l where {same})",
        table.source,
        table.name,
    )
    return [tuple(record["key"]) for record in records]


def stands_open(keys: Mapping[str, str], alias: str, *, table: TableName, newest: bool = False) -> str:
    """SQL over a relation with raw's columns: its row's key is quarantined. `keys` maps them to their types.

    `newest`: of keys that are not unique, the newest row is loaded, so its key does not count.
    """
    if not keys:
        return "false"
    others = f" and q.rule <> '{KEY_NOT_UNIQUE}'" if newest else ""
    return (
        f"exists (select from quarantine.rows as q where q.source_system = {quote_literal(table.source)} "
        f"and q.table_name = {quote_literal(table.name)} and q.withheld{others} and {same_key(keys, alias)})"
    )


async def key_set_not_in_raw(
    connection: Connection[Record],
    raw: str,
    keys: Mapping[str, str],
    *,
    table: TableName,
    within: str = "true",
    counted: str = "true",
    newest: bool = False,
) -> KeySet:
    """Source rows that are only in quarantine: their key has no live row in raw.

    Versions of one key count once; rows without a key count each, and so do copies of a key that is not unique. If raw
    has such a key, its row counts as one of the copies; with `newest`, it is one more. `within` is SQL over
    `quarantine.rows as q`: only those count; `counted` over `raw as r`: the rows of raw that are already counted.
    """
    if not keys:
        return KeySet(await count_open(connection, table=table, within=f"{within} and {_NOT_IN_RAW}"))
    known = " and ".join(f"q.row_key ->> {quote_literal(key)} is not null" for key in keys)
    typed = [f"(row_key ->> {quote_literal(key)})::{kind}" for key, kind in keys.items()]
    found = f"select from {raw} as r where r._deleted_at is null and {counted} and {same_key(keys, 'r')}"
    # Looked up by raw's key for each row, whatever the planner expects of a table that was filled just now: as an anti
    # join it read the whole index for each row, 39 s for 12,000 rows and over an hour for 100,000.
    live = f"case when exists ({found}) then true else false end"
    row = await connection.fetchrow(
        f"""
        with open_rows as (
            select q.*, row_number() over (partition by q.row_key, q.rule order by q.quarantine_id) as place
            from quarantine.rows as q
            where q.source_system = $1 and q.table_name = $2 and q.withheld and {within}
        ), only_here as (
            select distinct q.row_key, case when {known} then 0 else q.quarantine_id end as apart
            from open_rows as q
            where q.rule <> '{KEY_NOT_UNIQUE}' and not {live} and ({known} or {_NOT_IN_RAW})
            union all
            select q.row_key, q.quarantine_id as apart
            from open_rows as q
            where q.rule = '{KEY_NOT_UNIQUE}' and ({str(newest).lower()} or q.place > 1 or not {live})
        )
        select count(*) as rows, {fingerprint(typed)} as mark from only_here
        """,
        table.source,
        table.name,
    )
    assert row is not None  # an aggregate always answers one row
    return KeySet(row["rows"], row["mark"])


async def count_open(connection: Connection[Record], *, table: TableName, within: str = "true") -> int:
    """Quarantined rows of the table that the source has. `within` is SQL over `quarantine.rows as q`."""
    return int(
        await connection.fetchval(
            "select count(*) from quarantine.rows as q where q.source_system = $1 and q.table_name = $2 "
            f"and q.withheld and {within}",
            table.source,
            table.name,
        )
    )


async def needs_landing(connection: Connection[Record], landing: str, *, table: TableName) -> bool:
    """Whether a load has something to do in a landing table even if no row arrives: quarantined rows of the table may
    be released, and the landing table that a killed load has left is dropped."""
    return bool(
        await connection.fetchval(
            "select to_regclass($3) is not null or exists (select from quarantine.rows as q "
            "where q.source_system = $1 and q.table_name = $2 and q.withheld)",
            table.source,
            table.name,
            landing,
        )
    )


async def count_open_within(
    connection: Connection[Record],
    raw: str,
    column: str,
    kind: str,
    partition: Partition,
    keys: Mapping[str, str],
    *,
    table: TableName,
) -> int:
    """Keys of the partition that are only in quarantine. `kind` is the type of the partition column."""
    value = f"(q.row_data ->> {quote_literal(column)})::{kind}"
    return int(
        await connection.fetchval(
            "select count(distinct q.row_key) from quarantine.rows as q where q.source_system = $1 "
            f"and q.table_name = $2 and q.withheld and {value} >= '{partition.lower}' "
            f"and {value} < '{partition.upper}' "
            f"and not exists (select from {raw} as r where r._deleted_at is null and {same_key(keys, 'r')})",
            table.source,
            table.name,
        )
    )


async def count_open_copies(connection: Connection[Record], batch_id: int) -> int:
    """Rows of keys that are not unique that this batch has quarantined."""
    return int(
        await connection.fetchval(
            "select count(*) from quarantine.rows where batch_id = $1 and rule = $2 and withheld",
            batch_id,
            KEY_NOT_UNIQUE,
        )
    )


async def count_open_keys_not_unique(connection: Connection[Record], *, table: TableName) -> int:
    """Keys that are not unique at the source, as far as quarantine knows."""
    return int(
        await connection.fetchval(
            "select count(distinct row_key) from quarantine.rows where source_system = $1 and table_name = $2 "
            "and rule = $3 and withheld",
            table.source,
            table.name,
            KEY_NOT_UNIQUE,
        )
    )
