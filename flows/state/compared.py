"""What a table's last load has compared: the next one need not look for the keys of the same difference again."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def note_key_difference(connection: Connection[Record], batch_id: int, difference: Decimal) -> None:
    """Record by how much the fingerprints of both ends' keys differed, in the publishing transaction."""
    await connection.execute("update ops.loads set key_difference = $2 where batch_id = $1", batch_id, difference)


@dataclass(frozen=True, slots=True)
class Compared:
    """The result of a table's last load. `lacking`: source rows minus those in raw and quarantine."""

    result: str | None
    lacking: int | None
    key_difference: Decimal | None
    missing: int | None
    extra: int | None
    duplicate: int | None


async def last_compared(connection: Connection[Record], source: str, table: str) -> Compared | None:
    """What the table's last published load has compared; None before the first."""
    row = await connection.fetchrow(
        "select reconciliation, source_rows - raw_rows - quarantine_rows, key_difference, missing_rows, extra_rows, "
        "duplicate_rows from ops.loads where source_system = $1 and table_name = $2 and status = 'published' "
        "and strategy not in ('backfill', 'repair', 'replay', 'limited') order by batch_id desc limit 1",
        source,
        table,
    )
    return Compared(*row.values()) if row else None
