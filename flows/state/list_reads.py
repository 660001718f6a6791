"""How far the list of an API's endpoint has been read, in `ops.list_reads`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class ListRead:
    """One endpoint's row. While `place` is set, the list is being read, and reading goes on there.

    `declared` is a mark of the declaration: a place means something only to the one it was noted for. `since` is what
    was asked for, `reached` the latest cursor seen, `ceiling` the API's clock when the list began.
    """

    declared: str
    since: str | None = None
    etag: str | None = None
    place: dict[str, Any] | None = None
    reached: str | None = None
    ceiling: str | None = None


async def read(connection: Connection[Record], source: str, table: str, fresh: timedelta) -> ListRead | None:
    """What is known of the endpoint's list. A place older than `fresh` is forgotten: page tokens expire."""
    row = await connection.fetchrow(
        "select declared, since, etag, reached, ceiling, "
        "case when updated_at > clock_timestamp() - $3::interval then place end as place from ops.list_reads "
        "where source_system = $1 and table_name = $2",
        source,
        table,
        fresh,
    )
    if row is None:
        return None
    facts = dict(row)
    return ListRead(**(facts | {"place": None if facts["place"] is None else json.loads(facts["place"])}))


async def save(connection: Connection[Record], source: str, table: str, batch_id: int, known: ListRead) -> None:
    """Write it down, in the transaction that publishes the rows it speaks of."""
    await connection.execute(
        "insert into ops.list_reads (source_system, table_name, declared, since, etag, place, reached, ceiling, "
        "batch_id) values ($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8, $9) "
        "on conflict (source_system, table_name) do update set declared = excluded.declared, since = excluded.since, "
        "etag = excluded.etag, place = excluded.place, reached = excluded.reached, ceiling = excluded.ceiling, "
        "batch_id = excluded.batch_id, updated_at = clock_timestamp()",
        source,
        table,
        known.declared,
        known.since,
        known.etag,
        None if known.place is None else json.dumps(known.place),
        known.reached,
        known.ceiling,
        batch_id,
    )
