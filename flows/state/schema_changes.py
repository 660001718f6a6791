"""Column changes of tables in the ledger."""

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
    """The source's changes without an event yet, oldest first."""
    records = await connection.fetch(
        "select change_id, batch_id, source_system, table_name, column_name, change, old_type, new_type, applied, "
        "changed_at from ops.schema_changes where source_system = $1 and not announced order by change_id",
        source,
    )
    return [RecordedChange(*record.values()) for record in records]


async def mark_announced(connection: Connection[Record], changes: Sequence[RecordedChange]) -> None:
    """Mark these changes as announced."""
    await connection.execute(
        "update ops.schema_changes set announced = true where change_id = any($1::bigint[])",
        [change.change_id for change in changes],
    )


#: See `dropped_columns`.
DROPPED = (
    "select column_name from (select distinct on (column_name) column_name, change from ops.schema_changes "
    "where source_system = $1 and table_name = $2 and change <> 'label added' and (applied or $3) "
    "order by column_name, change_id desc) as latest where change = 'dropped'"
)


async def dropped_columns(connection: Connection[Record], source: str, table: str, *, held: bool = False) -> set[str]:
    """Columns that the source no longer had at the last load. Raw still has them.

    `held`: loads continue while changes are held back from raw, so those count as well.
    """
    records = await connection.fetch(DROPPED, source, table, held)
    return {record["column_name"] for record in records}


async def record(
    connection: Connection[Record],
    source: str,
    table: str,
    batch_id: int,
    changes: Sequence[tuple[str, str, str | None, str | None]],
) -> None:
    """Record schema changes as (column, change, old type, new type). A dropped column is recorded once."""
    for change in changes:
        await connection.execute(
            "insert into ops.schema_changes (batch_id, source_system, table_name, column_name, change, old_type, "
            "new_type) select $1, $2, $3, $4::text, $5::text, $6, $7 where $5::text <> 'dropped' or coalesce(("
            "select change from ops.schema_changes where source_system = $2 and table_name = $3 "
            "and column_name = $4 and applied order by change_id desc limit 1), '') <> 'dropped'",
            batch_id,
            source,
            table,
            *change,
        )


async def record_refused(
    connection: Connection[Record],
    source: str,
    table: str,
    batch_id: int,
    changes: Sequence[tuple[str, str, str | None, str | None]],
) -> None:
    """Record refused schema changes, as (column, change, old type, new type): once, whatever the number of attempts."""
    for change in changes:
        await connection.execute(
            "insert into ops.schema_changes (batch_id, source_system, table_name, column_name, change, old_type, "
            "new_type, applied) select $1, $2, $3, $4::text, $5::text, $6::text, $7::text, false where not exists ("
            "select from (select change, new_type, applied from ops.schema_changes where source_system = $2 "
            "and table_name = $3 and column_name = $4 order by change_id desc limit 1) as latest "
            "where not applied and change = $5 and new_type is not distinct from $7)",
            batch_id,
            source,
            table,
            *change,
        )
