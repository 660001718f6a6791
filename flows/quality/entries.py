"""Rows in quarantine as a person looks at them: counted by table and rule, found by id, discarded; never values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from flows.quality.open_rows import DISCARDED
from flows.values.errors import DeclarationError

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class Count:
    """Rows of one table under one rule: how many, how many of them have a fix that was not loaded, first and last.

    `resolution` is None for open ones.
    """

    table: str
    rule: str
    rows: int
    fixed: int
    first: datetime | None
    last: datetime | None
    resolution: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A quarantined row without its values."""

    number: int
    table: str
    rule: str
    batch_id: int
    quarantined_at: datetime
    resolved_at: datetime | None
    resolution: str | None
    resolved_by: str | None
    reason: str | None
    withheld: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows a person asks for; None: all."""

    source: str | None = None
    table: str | None = None
    rule: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    resolved: bool = False


_ENTRY = (
    "q.quarantine_id, q.source_system || '.' || q.table_name, q.rule, q.batch_id, q.quarantined_at, q.resolved_at, "
    "q.resolution, q.resolved_by, q.reason, q.withheld"
)
_WANTED = """
    ($1::text is null or q.source_system = $1) and ($2::text is null or q.table_name = $2)
    and ($3::text is null or q.rule = $3)
    and ($4::timestamptz is null or q.quarantined_at >= $4) and ($5::timestamptz is null or q.quarantined_at < $5)
    and (q.resolved_at is not null) = $6
"""


async def count(connection: Connection[Record], wanted: Wanted) -> list[Count]:
    """Rows by table and rule, the most first."""
    records = await connection.fetch(
        "select q.source_system || '.' || q.table_name, q.rule, count(*), count(*) filter (where exists ("
        "select from quarantine.fixes as f where f.quarantine_id = q.quarantine_id "
        "and f.fix_id > coalesce(q.fix_id, 0)) and q.withheld), "
        "min(q.quarantined_at), max(q.quarantined_at), q.resolution "
        f"from quarantine.rows as q where {_WANTED} group by 1, 2, 7 order by 3 desc, 1, 2",
        *_arguments(wanted),
    )
    return [Count(*record.values()) for record in records]


async def of_tables(connection: Connection[Record], wanted: Wanted, limit: int) -> list[Entry]:
    """Rows, the oldest first."""
    records = await connection.fetch(
        f"select {_ENTRY} from quarantine.rows as q where {_WANTED} order by q.quarantine_id limit $7",
        *_arguments(wanted),
        limit,
    )
    return [Entry(*record.values()) for record in records]


def _arguments(wanted: Wanted) -> tuple[object, ...]:
    return (wanted.source, wanted.table, wanted.rule, wanted.since, wanted.until, wanted.resolved)


async def find(connection: Connection[Record], numbers: Sequence[int]) -> list[Entry]:
    """The rows of these ids.

    Raises:
        DeclarationError: one does not exist.
    """
    records = await connection.fetch(
        f"select {_ENTRY} from quarantine.rows as q where q.quarantine_id = any($1::bigint[]) order by 1",
        [number for number in numbers if number < 2**63],
    )
    if missing := sorted(set(numbers) - {record["quarantine_id"] for record in records}):
        raise DeclarationError(
            f"quarantine has no row {', '.join(map(str, missing))}",
            where="quarantine.rows",
            fix="`medallion quarantine list` counts rows, and `medallion quarantine show SOURCE.TABLE` has their ids; "
            "resolved ones are deleted after their retention period",
        )
    return [Entry(*record.values()) for record in records]


async def any_of(connection: Connection[Record], table: str, condition: str) -> bool:
    """Whether the table has a row under the condition, SQL over `quarantine.rows as q` and its newest fix `f`."""
    source, _, name = table.partition(".")
    return bool(
        await connection.fetchval(
            "select exists (select from quarantine.rows as q left join lateral (select max(fix_id) as fix_id "
            "from quarantine.fixes as f where f.quarantine_id = q.quarantine_id) as f on true "
            f"where q.source_system = $1 and q.table_name = $2 and {condition})",
            source,
            name,
        )
    )


async def discard(connection: Connection[Record], numbers: Sequence[int], by: str, reason: str) -> list[int]:
    """Close open rows: they stay readable, and are no new ones if the source sends them again. Returns which."""
    records = await connection.fetch(
        "update quarantine.rows as q set resolved_at = clock_timestamp(), resolution = $2, resolved_by = $3, "
        "reason = $4 where q.quarantine_id = any($1::bigint[]) and q.resolved_at is null "
        "returning q.quarantine_id, q.source_system, q.table_name",
        list(numbers),
        DISCARDED,
        by,
        reason,
    )
    for table in {(record["source_system"], record["table_name"]) for record in records}:
        await resolve_alert(connection, *table)
    return sorted(record["quarantine_id"] for record in records)


async def resolve_alert(connection: Connection[Record], source: str, table: str) -> None:
    """Resolve the alert about a table's quarantined rows, if none is open: not each decision is followed by a load."""
    await connection.execute(
        "select ops.resolve_alerts(array['rows quarantined'], $1 || '.' || $2, 'none of its rows is in quarantine') "
        "where exists (select from ops.alerts as a where a.name = 'rows quarantined' "
        "and a.subject = $1 || '.' || $2 and a.resolved_at is null) and not exists (select from quarantine.rows as q "
        "where q.source_system = $1 and q.table_name = $2 and q.resolved_at is null)",
        source,
        table,
    )


async def tables(connection: Connection[Record]) -> list[str]:
    """Tables with open rows, or with a fix that was not loaded."""
    records = await connection.fetch(
        "select distinct q.source_system || '.' || q.table_name as name from quarantine.rows as q "
        "where q.withheld and (q.resolved_at is null or exists (select from quarantine.fixes as f "
        "where f.quarantine_id = q.quarantine_id and f.fix_id > coalesce(q.fix_id, 0))) order by 1"
    )
    return [record["name"] for record in records]


async def record_reveal(
    connection: Connection[Record], place: str, numbers: Sequence[int], rows: int, by: str, reason: str
) -> None:
    """A row of ops.reveals: who sees values of which rows, and why."""
    await connection.execute(
        "insert into ops.reveals (place, quarantine_ids, rows, revealed_by, reason) "
        "values ($1, $2::bigint[], $3, $4, $5)",
        place,
        list(numbers),
        rows,
        by,
        reason,
    )
