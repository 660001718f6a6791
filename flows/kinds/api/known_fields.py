"""Known fields of an endpoint's records, in `ops.record_fields`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def read(connection: Connection[Record], source: str, table: str) -> dict[str, frozenset[str]]:
    """Each known field with the types of its values; empty if nothing is known."""
    rows = await connection.fetch(
        "select field, kinds from ops.record_fields where source_system = $1 and table_name = $2 order by field",
        source,
        table,
    )
    return {row["field"]: frozenset(row["kinds"]) for row in rows}


async def save(
    connection: Connection[Record], source: str, table: str, batch_id: int, known: Mapping[str, frozenset[str]]
) -> None:
    """Store the known fields, in the publishing transaction."""
    await connection.executemany(
        "insert into ops.record_fields (source_system, table_name, field, kinds, batch_id) values ($1, $2, $3, $4, $5) "
        "on conflict (source_system, table_name, field) do update set kinds = excluded.kinds, "
        "batch_id = excluded.batch_id where ops.record_fields.kinds <> excluded.kinds",
        [(source, table, field, sorted(kinds), batch_id) for field, kinds in known.items()],
    )
