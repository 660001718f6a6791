"""Which rows of the source stand in quarantine now, told by their digest or by their key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flows.spec.checksum import Key, key_among
from flows.spec.identifiers import quote_identifier, quote_literal

if TYPE_CHECKING:
    from asyncpg import Connection, Record


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
    same = " and ".join(
        f"{alias}.{quote_identifier(name)} = (q.row_key ->> {quote_literal(name)})::{kind}"
        for name, kind in keys.items()
    )
    return (
        f"exists (select from quarantine.rows as q where q.source_system = {quote_literal(source)} "
        f"and q.table_name = {quote_literal(table)} and q.resolved_at is null and {same})"
    )
