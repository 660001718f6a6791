"""What the ledger remembers of a table's columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record


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
