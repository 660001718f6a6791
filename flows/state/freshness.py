"""What the ledger knows of how fresh tables and models are: one query for all of them, by the index of each table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Loads that read single keys, partitions or a sample. They do not make a table fresh.
PARTIAL = ("repair", "backfill", "limited", "replay")
#: A part of a catch-up is not the whole: the load may have stopped at a budget, or have died, after it.
COMPLETE = "reconciliation is distinct from 'incomplete'"
# A clock that was ahead and set back leaves loads in the future, which would keep their table fresh until then.
_AHEAD = timedelta(minutes=5)
_FULL = "pipeline in ('transform', 'release') and status = 'done' and details ? 'full_build'"
_CHANGED = "coalesce(l.rows_inserted, 0) + coalesce(l.rows_updated, 0) + coalesce(l.rows_deleted, 0) > 0"
_OF_TABLE = "from ops.loads as l where l.source_system = w.source_system and l.table_name = w.table_name"
_PUBLISHED = f"{_OF_TABLE} and l.status = 'published' and l.finished_at <= $4"
_TABLES = f"""
with built as (select started_at from ops.runs where {_FULL} and finished_at <= $4 order by run_id desc limit 1)
select w.source_system, w.table_name, k.known_since, f.loaded_at, c.changed_batch, c.changed_at, b.unbuilt_since
from unnest($1::text[], $2::text[], $3::boolean[]) as w (source_system, table_name, asks_changes)
left join lateral (select l.started_at as known_since {_OF_TABLE} order by l.batch_id limit 1) as k on true
left join lateral (
    select l.finished_at as loaded_at {_PUBLISHED} and l.strategy <> all($5) and {COMPLETE}
    order by l.batch_id desc limit 1
) as f on true
left join lateral (
    select l.batch_id as changed_batch, l.finished_at as changed_at {_PUBLISHED} and w.asks_changes and {_CHANGED}
    order by l.batch_id desc limit 1
) as c on true
left join lateral (
    -- Those of before the build began are skipped by the index, from the newest on. Rows committed while it ran may not
    -- be in it.
    select min(l.finished_at) as unbuilt_since {_PUBLISHED} and w.asks_changes and {_CHANGED}
    and l.batch_id > coalesce((
        select l.batch_id {_OF_TABLE} and l.finished_at <= (select started_at from built)
        order by l.batch_id desc limit 1
    ), 0)
) as b on true
"""
_BUILDS = f"""
select
    (select finished_at from ops.runs where {_FULL} and finished_at <= $1 order by run_id desc limit 1) as built_at,
    (select started_at from ops.runs where pipeline in ('transform', 'release') order by run_id limit 1) as known_since
"""
# From the newest on, by the index: a year of loads is not read for a month.
_FULL_LOAD = f"{_OF_TABLE} and l.status = 'published' and l.strategy <> all($5) and {COMPLETE}"
_ENDS = f"""
select w.source_system, w.table_name, e.ends
from unnest($1::text[], $2::text[]) as w (source_system, table_name)
left join lateral (
    select l.batch_id as first {_FULL_LOAD} and l.finished_at < $3 order by l.batch_id desc limit 1
) as b on true
cross join lateral (
    select array_agg(l.finished_at order by l.finished_at) as ends {_FULL_LOAD} and l.finished_at <= $4
        and l.batch_id >= coalesce(b.first, 0)
) as e
where e.ends is not null
"""


@dataclass(frozen=True, slots=True)
class TableTimes:
    """`known_since`: its first load began, whatever its end. `loaded_at`: its last full load ended. `changed_batch`,
    `changed_at`: the last load that changed rows. `unbuilt_since`: the first one that gold was not built from."""

    known_since: datetime | None = None
    loaded_at: datetime | None = None
    changed_batch: int | None = None
    changed_at: datetime | None = None
    unbuilt_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class BuildTimes:
    """`built_at`: the last full build of the models ended; `known_since`: the first one began, whatever its end."""

    built_at: datetime | None
    known_since: datetime | None


async def table_times(
    connection: Connection[Record], tables: Sequence[tuple[str, str, bool]], now: datetime
) -> dict[tuple[str, str], TableTimes]:
    """The times of tables, given as (source, table, whether changes are asked for as well)."""
    sources, names, asks = zip(*tables, strict=True) if tables else ((), (), ())
    rows = await connection.fetch(_TABLES, [*sources], [*names], [*asks], now + _AHEAD, [*PARTIAL])
    return {
        (row["source_system"], row["table_name"]): TableTimes(
            row["known_since"], row["loaded_at"], row["changed_batch"], row["changed_at"], row["unbuilt_since"]
        )
        for row in rows
    }


async def build_times(connection: Connection[Record], now: datetime) -> BuildTimes:
    """The times of full builds of the models."""
    row = await connection.fetchrow(_BUILDS, now + _AHEAD)
    assert row is not None  # it always answers one row
    return BuildTimes(row["built_at"], row["known_since"])


async def load_ends(
    connection: Connection[Record], tables: Iterable[tuple[str, str]], since: datetime, until: datetime
) -> dict[tuple[str, str], list[datetime]]:
    """When the full loads of each table ended, ascending: those of that time, and the last one before it."""
    wanted = list(tables)
    rows = await connection.fetch(
        _ENDS, [source for source, _ in wanted], [table for _, table in wanted], since, until, [*PARTIAL]
    )
    return {(row["source_system"], row["table_name"]): row["ends"] for row in rows}


async def build_ends(connection: Connection[Record], since: datetime, until: datetime) -> list[datetime]:
    """When full builds ended, ascending: those of that time, and the last one before it."""
    rows = await connection.fetch(
        f"select finished_at from ops.runs where {_FULL} and finished_at <= $2 and finished_at >= coalesce("
        f"(select max(finished_at) from ops.runs where {_FULL} and finished_at < $1), $1) order by 1",
        since,
        until,
    )
    return [row["finished_at"] for row in rows]
