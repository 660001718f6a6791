"""What a dlt resource keeps between reads, in `ops.dlt_states`: its cursors, and whatever else its code remembers.

One row a table, overwritten in the publishing transaction: it never runs ahead of the rows, and does not grow by runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def read_state(connection: Connection[Record], source: str, table: str) -> str | None:
    """What the last published load left, as dlt's typed JSON; None when there is none."""
    state: str | None = await connection.fetchval(
        "select state::text from ops.dlt_states where source_system = $1 and table_name = $2", source, table
    )
    return state


async def save_state(connection: Connection[Record], source: str, table: str, state: str, batch_id: int) -> None:
    """Keep the state. Runs in the publishing transaction."""
    await connection.execute(
        "insert into ops.dlt_states (source_system, table_name, state, batch_id) values ($1, $2, $3::text::json, $4) "
        "on conflict (source_system, table_name) do update set state = excluded.state, batch_id = excluded.batch_id, "
        "updated_at = clock_timestamp()",
        source,
        table,
        state,
        batch_id,
    )
