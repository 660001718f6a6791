"""The newest event of a table in raw. A load that changed nothing has no newer one: raw is read once per change."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg

from flows.kinds.answers import EventTime
from flows.state.freshness import TableTimes
from flows.values.identifiers import qualified, quote_identifier, quote_literal

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: How long the newest value of a column may be looked for.
PATIENCE = "5s"
# What is of the future now may be the newest later; and what could not be read may be readable.
_KEPT, _PROBLEM_KEPT = timedelta(hours=1), timedelta(minutes=10)
# Rows of 9999, and orders for next month, would keep a table fresh.
_AHEAD = timedelta(minutes=5)
_TYPE = """
select format_type(a.atttypid, null) from pg_attribute as a
where a.attrelid = to_regclass($1) and a.attname = $2 and a.attnum > 0 and not a.attisdropped
"""


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest event, or why it is not known. Both None: there is no event yet."""

    at: datetime | None = None
    problem: str | None = None
    fix: str = ""


@dataclass(slots=True)
class Events:
    """The newest events of tables, remembered until a load changes rows, but not for long."""

    _known: dict[tuple[str, EventTime], tuple[object, datetime, Newest]] = field(default_factory=dict, init=False)

    async def newest(
        self,
        connection: Connection[Record],
        schema: str,
        table: str,
        event: EventTime,
        times: TableTimes,
        now: datetime,
    ) -> Newest:
        """The newest event in a table of raw that is not after `now`."""
        key, state = (qualified(schema, table), event), (times.changed_batch, times.changed_at)
        remembered = self._known.get(key)
        if remembered is not None:
            before, read_at, found = remembered
            lasts = _KEPT if found.problem is None else _PROBLEM_KEPT
            if before == state and timedelta(0) <= now - read_at < lasts:
                return found
        found = await _read(connection, key[0], event, now)
        self._known[key] = (state, now, found)
        return found


async def _read(connection: Connection[Record], relation: str, event: EventTime, now: datetime) -> Newest:
    kind = await connection.fetchval(_TYPE, relation, event.column)
    if kind is None:
        if await connection.fetchval("select to_regclass($1) is null", relation):
            return Newest()  # nothing was loaded yet
        return Newest(None, f"raw has no column {event.column}", "name a column of raw in event=")
    forms = _forms(kind, event)
    if forms is None:
        problem = f"column {event.column} is of type {kind}, which is no time"
        return Newest(None, problem, "name a column of times in event=")
    to_time, bound = forms
    column = quote_identifier(event.column)
    newest = f"select max({column}) as newest from {relation} where {column} <= {bound}"
    try:
        async with connection.transaction():
            await connection.execute(f"set local statement_timeout = '{PATIENCE}'")
            at = await connection.fetchval(
                f"select case when isfinite(at) then at end from (select {to_time.format('newest')} as at "
                f"from ({newest}) as n) as t",
                now + _AHEAD,
            )
    except asyncpg.QueryCanceledError:
        return Newest(
            None,
            f"the newest {event.column} was not found within {PATIENCE}",
            f"create index on {relation} ({column})",
        )
    except asyncpg.LockNotAvailableError:
        return Newest(None, f"the newest {event.column} cannot be read: the table is locked", "see `medallion status`")
    return Newest(at)


def _forms(kind: str, event: EventTime) -> tuple[str, str] | None:
    """SQL from a value to a timestamptz, and from $1, a timestamptz, to a value of the column; None for other types."""
    zone = quote_literal(event.zone)
    match kind:
        case "timestamp with time zone":
            return "{}", "$1::timestamptz"
        case "timestamp without time zone":
            return f"{{}} at time zone {zone}", f"$1::timestamptz at time zone {zone}"
        case "date":
            return f"{{}}::timestamp at time zone {zone}", f"($1::timestamptz at time zone {zone})::date"
        case "smallint" | "integer" | "bigint" | "numeric" | "double precision" | "real" if event.per_second:
            seconds = f"extract(epoch from $1::timestamptz) * {event.per_second}"
            # In the column's own type, so that an index is used.
            bound = f"floor({seconds})::bigint" if kind in ("integer", "bigint", "smallint") else f"({seconds})::{kind}"
            return f"to_timestamp(({{}} / {event.per_second}.0)::double precision)", bound
        case _:
            return None
