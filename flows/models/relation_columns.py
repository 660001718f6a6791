"""The columns of a relation in the warehouse, with their types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.values.identifiers import qualified

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def relation_columns(connection: Connection[Record], schema: str, table: str) -> dict[str, str]:
    """`{"sold_on": "date", "sales_value": "numeric(14,2)"}`, in the relation's order; empty if it does not exist."""
    rows = await connection.fetch(
        "select attname, format_type(atttypid, atttypmod) as kind from pg_attribute "
        "where attrelid = to_regclass($1) and attnum > 0 and not attisdropped order by attnum",
        qualified(schema, table),
    )
    return {row["attname"]: row["kind"] for row in rows}
