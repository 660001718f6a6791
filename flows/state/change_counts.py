"""What loads of changes brought, as their sources made them: `ops.change_counts`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class Totals:
    """Changes of a table over all of its loads, loads that failed, and when the source committed the last change."""

    inserts: int = 0
    updates: int = 0
    deletes: int = 0
    truncates: int = 0
    key_changes: int = 0
    failed: int = 0
    committed_at: datetime | None = None


_NOTE = """
insert into ops.change_counts
    (batch_id, inserts, updates, deletes, truncates, key_changes, begins, ends, committed_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
on conflict (batch_id) do update set
    inserts = change_counts.inserts + excluded.inserts, updates = change_counts.updates + excluded.updates,
    deletes = change_counts.deletes + excluded.deletes, truncates = change_counts.truncates + excluded.truncates,
    key_changes = change_counts.key_changes + excluded.key_changes, ends = excluded.ends,
    committed_at = coalesce(excluded.committed_at, change_counts.committed_at), noted_at = clock_timestamp()
"""
_TOTALS = """
select
    l.table_name, coalesce(sum(c.inserts), 0)::bigint as inserts, coalesce(sum(c.updates), 0)::bigint as updates,
    coalesce(sum(c.deletes), 0)::bigint as deletes, coalesce(sum(c.truncates), 0)::bigint as truncates,
    coalesce(sum(c.key_changes), 0)::bigint as key_changes, count(*) filter (where l.status = 'failed') as failed,
    max(c.committed_at) as committed_at
from ops.loads as l
left join ops.change_counts as c using (batch_id)
where l.source_system = $1
group by 1
"""


async def note(connection: Connection[Record], batch_id: int, found: Totals, begins: str, ends: str) -> None:
    """Store what a load brought, in its publishing transaction; what its batch has brought before is added."""
    await connection.execute(
        _NOTE,
        batch_id,
        found.inserts,
        found.updates,
        found.deletes,
        found.truncates,
        found.key_changes,
        begins,
        ends,
        found.committed_at,
    )


async def totals(connection: Connection[Record], source: str) -> dict[str, Totals]:
    """What the tables of a source have had, by name."""
    found = {}
    for row in await connection.fetch(_TOTALS, source):
        facts = dict(row)
        name = str(facts.pop("table_name"))
        found[name] = Totals(**facts)
    return found
