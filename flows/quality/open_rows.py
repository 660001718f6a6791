"""Which rows of the source stand in quarantine now, and how many, told by their digest or by their key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flows.declare.partition import Partition
from flows.values.checksum import Key, key_among
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.plan import KeySet
from flows.values.shape import fingerprint

if TYPE_CHECKING:
    from asyncpg import Connection, Record


def same_key(keys: Mapping[str, str], alias: str) -> str:
    """SQL over `quarantine.rows as q`: the row of `alias` has its key. `keys` maps the key's columns to their types.

    The quarantined key is typed as the column: with it a handful of rows finds its match by the primary key.
    """
    return " and ".join(
        f"{alias}.{quote_identifier(key)} = (q.row_key ->> {quote_literal(key)})::{kind}" for key, kind in keys.items()
    )


async def open_digests(connection: Connection[Record], digests: Sequence[str], *, source: str, table: str) -> set[str]:
    """Those digests of rows that stand in quarantine just as they are."""
    records = await connection.fetch(
        "select distinct row_hash from quarantine.rows where source_system = $1 and table_name = $2 "
        "and resolved_at is null and row_hash = any($3::text[])",
        source,
        table,
        list(digests),
    )
    return {record["row_hash"] for record in records}


async def count_open_keys(
    connection: Connection[Record], raw: str, names: Mapping[str, str], keys: Sequence[Key], *, source: str, table: str
) -> int:
    """Those keys that stand in quarantine and have no live row in raw. `names` maps key columns to their types."""
    typed = [f"(q.row_key ->> {quote_literal(name)})::{kind}" for name, kind in names.items()]
    same = " and ".join(f"r.{quote_identifier(name)} = {value}" for name, value in zip(names, typed, strict=True))
    return int(
        await connection.fetchval(
            "select count(distinct q.row_key) from quarantine.rows as q "
            "where q.source_system = $1 and q.table_name = $2 and q.resolved_at is null "
            f"and {key_among(typed, list(names.values()), keys)} "
            f"and not exists (select from {raw} as r where r._deleted_at is null and {same})",
            source,
            table,
        )
    )


async def open_rules(connection: Connection[Record], prefix: str, *, source: str, table: str) -> set[str]:
    """What follows the prefix in the names of rules under which rows of the table stand in quarantine."""
    records = await connection.fetch(
        "select distinct rule from quarantine.rows where source_system = $1 and table_name = $2 "
        "and resolved_at is null and starts_with(rule, $3)",
        source,
        table,
        prefix,
    )
    return {record["rule"].removeprefix(prefix) for record in records}


def document_within(column: str, kind: str, condition: str) -> str:
    """SQL over `quarantine.rows as q`: the kept row is one that a condition over `column`, of that type, selects.

    A value that is not of the type, or that the document does not have, counts as null.
    """
    value = f"q.row_data ->> {quote_literal(column)}"
    typed = f"case when pg_input_is_valid({value}, {quote_literal(kind)}) then ({value})::{kind} end"
    return f"exists (select from (select {typed} as {quote_identifier(column)}) as w where {condition})"


async def open_keys_not_landed(
    connection: Connection[Record], landing: str, names: Mapping[str, str], within: str, *, source: str, table: str
) -> list[Key]:
    """Keys of quarantined rows that the landing table does not have. `within` is SQL over `quarantine.rows as q`."""
    typed = [f"(q.row_key ->> {quote_literal(name)})::{kind}" for name, kind in names.items()]
    same = " and ".join(f"l.{quote_identifier(name)} = {value}" for name, value in zip(names, typed, strict=True))
    known = " and ".join(f"q.row_key ->> {quote_literal(name)} is not null" for name in names)
    records = await connection.fetch(
        f"select distinct array[{', '.join(f'{value}::text' for value in typed)}] as key from quarantine.rows as q "
        f"where q.source_system = $1 and q.table_name = $2 and q.resolved_at is null and {known} and {within} "
        f"and not exists (select from {landing} as l where {same})",
        source,
        table,
    )
    return [tuple(record["key"]) for record in records]


def stands_open(keys: Mapping[str, str], alias: str, *, source: str, table: str) -> str:
    """SQL over a relation with raw's columns: its row's key stands in quarantine. `keys` maps them to their types."""
    if not keys:
        return "false"
    return (
        f"exists (select from quarantine.rows as q where q.source_system = {quote_literal(source)} "
        f"and q.table_name = {quote_literal(table)} and q.resolved_at is null and {same_key(keys, alias)})"
    )


async def key_set_not_in_raw(
    connection: Connection[Record],
    raw: str,
    keys: Mapping[str, str],
    *,
    source: str,
    table: str,
    within: str = "true",
    counted: str = "true",
) -> KeySet:
    """Source rows that stand in quarantine only: their key has no live row in raw.

    Versions of one key count once; rows without a key are told apart by nothing, so each counts. `within` is SQL over
    `quarantine.rows as q`: only those count; `counted` over `raw as r`: the rows of raw that count already.
    """
    if not keys:
        return KeySet(await count_open(connection, source=source, table=table, within=within))
    known = " and ".join(f"q.row_key ->> {quote_literal(key)} is not null" for key in keys)
    typed = [f"(row_key ->> {quote_literal(key)})::{kind}" for key, kind in keys.items()]
    row = await connection.fetchrow(
        f"""
        with only_here as (
            select distinct q.row_key, case when {known} then 0 else q.quarantine_id end as apart
            from quarantine.rows as q
            where q.source_system = $1 and q.table_name = $2 and q.resolved_at is null and {within}
                and not exists (
                    select from {raw} as r where r._deleted_at is null and {counted} and {same_key(keys, "r")}
                )
        )
        select count(*) as rows, {fingerprint(typed)} as mark from only_here
        """,
        source,
        table,
    )
    assert row is not None  # an aggregate always answers one row
    return KeySet(row["rows"], row["mark"])


async def count_open(connection: Connection[Record], *, source: str, table: str, within: str = "true") -> int:
    """Rows of the table that stand in quarantine now. `within` is SQL over `quarantine.rows as q`."""
    return int(
        await connection.fetchval(
            "select count(*) from quarantine.rows as q where q.source_system = $1 and q.table_name = $2 "
            f"and q.resolved_at is null and {within}",
            source,
            table,
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
    source: str,
    table: str,
) -> int:
    """Keys of the partition that stand in quarantine only. `kind` is the type of the column that divides the table."""
    value = f"(q.row_data ->> {quote_literal(column)})::{kind}"
    return int(
        await connection.fetchval(
            "select count(distinct q.row_key) from quarantine.rows as q where q.source_system = $1 "
            f"and q.table_name = $2 and q.resolved_at is null and {value} >= '{partition.lower}' "
            f"and {value} < '{partition.upper}' "
            f"and not exists (select from {raw} as r where r._deleted_at is null and {same_key(keys, 'r')})",
            source,
            table,
        )
    )
