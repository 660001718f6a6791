"""What the ledger remembers of a table's columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class RecordedChange:
    """A row of ops.schema_changes. `change`: added, dropped, returned, retyped, label added."""

    change_id: int
    batch_id: int
    source: str
    table: str
    column: str
    change: str
    old_type: str | None
    new_type: str | None
    applied: bool
    changed_at: datetime


async def not_announced(connection: Connection[Record], source: str) -> list[RecordedChange]:
    """The source's changes about which no event was sent yet, oldest first."""
    records = await connection.fetch(
        "select change_id, batch_id, source_system, table_name, column_name, change, old_type, new_type, applied, "
        "changed_at from ops.schema_changes where source_system = $1 and not announced order by change_id",
        source,
    )
    return [RecordedChange(*record.values()) for record in records]


async def mark_announced(connection: Connection[Record], changes: Sequence[RecordedChange]) -> None:
    """Events about these changes were sent."""
    await connection.execute(
        "update ops.schema_changes set announced = true where change_id = any($1::bigint[])",
        [change.change_id for change in changes],
    )


async def dropped_columns(connection: Connection[Record], source: str, table: str, *, held: bool = False) -> set[str]:
    """Columns that the source no longer had when the table was last loaded. Raw still has them.

    `held`: loads of the table go on while changes are held back from raw, so those count as well.
    """
    records = await connection.fetch(
        "select column_name from (select distinct on (column_name) column_name, change from ops.schema_changes "
        "where source_system = $1 and table_name = $2 and change <> 'label added' and (applied or $3) "
        "order by column_name, change_id desc) as latest where change = 'dropped'",
        source,
        table,
        held,
    )
    return {record["column_name"] for record in records}
