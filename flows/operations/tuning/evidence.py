"""What raw says about which rows change: raw has the source's columns, and of each row the load that last changed it.

So whether a column rises with each change, and how old the rows are that change, is seen without asking the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from flows.declare.source import Loadable, Source
from flows.kinds.answers import CursorCandidate
from flows.landing.table import Target, raw_columns
from flows.values.identifiers import quote_identifier

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Loads whose rows are looked at, the newest that changed some.
_LOADS = 20
#: How far clocks of applications may be behind: also the lag of the recommended cursor.
LAG = "10 min"
_PATIENCE_MS = 30_000
_TIMES, _NUMBERS = ("timestamp",), ("integer", "bigint")

_CHANGED = """
with whole as (
    select
        batch_id,
        strategy,
        rows_inserted,
        rows_updated,
        finished_at,
        lag(started_at) over (order by batch_id) as before
    from ops.loads
    where source_system = $1 and table_name = $2 and status = 'published'
        and strategy not in ('backfill', 'repair', 'replay', 'limited')
        and reconciliation is distinct from 'incomplete'
)
select batch_id, before, finished_at, rows_updated from whole
where before is not null and strategy not in ('initial', 'reload') and rows_inserted + rows_updated > 0
order by rows_updated > 0 desc, batch_id desc limit $3
"""


@dataclass(frozen=True, slots=True)
class ChangedRows:
    """Rows in raw that one of the last loads changed. `rows` of `loads`, and of each column, how many contradict it."""

    rows: int
    loads: int
    contradicting: dict[str, int]


@dataclass(frozen=True, slots=True)
class Recent:
    """The column that divides a table so that all changes are in the last `months`, with `share` of all rows."""

    column: str
    months: int
    share: float
    rows: int
    loads: int


@dataclass(frozen=True, slots=True)
class _Loads:
    batches: list[int]
    before: list[datetime]
    ended: list[datetime]


async def rising(
    connection: Connection[Record], source: Source, table: Loadable, candidates: Sequence[CursorCandidate]
) -> ChangedRows | None:
    """How many changed rows contradict each column; None if no load of those looked at changed rows.

    A time contradicts if a cursor with the lag would have missed the row: it is older than the load before, or it is
    ahead of the load that read it. A number contradicts if it is not above those of all earlier loads.
    """
    target = Target(source.name, table.name, source.raw_schema)
    types = await raw_columns(connection, target) or {}
    known = [each for each in candidates if types.get(each.column, "").startswith(_NUMBERS if each.counts else _TIMES)]
    found = await _loads(connection, source.name, table.name)
    if not known or not found.batches:
        return None
    wrong = ", ".join(f"count(*) filter (where {_contradicts(each, types)})" for each in known)
    highest = "".join(
        f", (select max({quote_identifier(each.column)}) from {target.raw} where _batch_id < "
        f"(select min(b.batch_id) from b)) as {quote_identifier('_highest_' + each.column)}"
        for each in known
        if each.counts
    )
    async with connection.transaction(readonly=True):
        await connection.execute(f"set local statement_timeout = {_PATIENCE_MS}")
        row = await connection.fetchrow(
            "with b as (select * from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) "
            f"as b (batch_id, before, ended)), h as (select 1 as one{highest}) "
            f"select count(*), count(distinct b.batch_id), {wrong} "
            f"from {target.raw} as r inner join b on r._batch_id = b.batch_id cross join h "
            "where r._deleted_at is null",
            found.batches,
            found.before,
            found.ended,
        )
    assert row is not None  # an aggregate always answers one row
    rows, loads, *counts = row.values()
    return ChangedRows(rows, loads, {each.column: count for each, count in zip(known, counts, strict=True)})


def _contradicts(candidate: CursorCandidate, types: dict[str, str]) -> str:
    name = f"r.{quote_identifier(candidate.column)}"
    if candidate.counts:
        highest = quote_identifier(f"_highest_{candidate.column}")
        return f"{name} is null or {name} <= h.{highest}"
    if "without time zone" in types[candidate.column]:
        name = f"{name} at time zone 'UTC'"
    lag = f"interval '{LAG}'"
    return f"{name} is null or {name} < b.before - {lag} or {name} > b.ended + {lag}"


async def recent(connection: Connection[Record], source: Source, table: Loadable, most_months: int) -> Recent | None:
    """The date column whose last few months have all rows that changed and the fewest others; None if none has."""
    target = Target(source.name, table.name, source.raw_schema)
    types = await raw_columns(connection, target) or {}
    columns = [name for name, kind in types.items() if kind.startswith(("date", "timestamp")) and name[0] != "_"]
    found = await _loads(connection, source.name, table.name)
    if not columns or not found.batches:
        return None
    ages = ", ".join(
        f"max({_months('b.ended', quote_identifier(each))}), min({_months('b.ended', quote_identifier(each))}), "
        f"count(*) - count(r.{quote_identifier(each)})"
        for each in columns
    )
    async with connection.transaction(readonly=True):
        await connection.execute(f"set local statement_timeout = {_PATIENCE_MS}")
        row = await connection.fetchrow(
            "with b as (select * from unnest($1::bigint[], $2::timestamptz[]) as b (batch_id, ended)) "
            f"select count(*), count(distinct b.batch_id), {ages} "
            f"from {target.raw} as r inner join b on r._batch_id = b.batch_id",
            found.batches,
            found.ended,
        )
        assert row is not None  # an aggregate always answers one row
        rows, loads, *facts = row.values()
        months = {
            name: int(oldest) + 1
            for name, oldest, newest, nulls in zip(columns, facts[::3], facts[1::3], facts[2::3], strict=True)
            if rows and not nulls and oldest is not None and newest >= 0 and oldest < most_months
        }
        best = None
        for name, count in months.items():
            share = await connection.fetchval(
                f"select count(*) filter (where {quote_identifier(name)} >= date_trunc('month', now()) "
                f"- interval '{count - 1} months')::float8 / nullif(count(*), 0) from {target.raw}"
            )
            if share is not None and (best is None or share < best.share):
                best = Recent(name, count, share, rows, loads)
    return best


def _months(moment: str, column: str) -> str:
    """SQL: by how many calendar months the column is before a moment."""
    parts = ((12, "year"), (1, "month"))
    return " + ".join(
        f"{times} * (extract({part} from {moment}) - extract({part} from r.{column}))" for times, part in parts
    )


async def _loads(connection: Connection[Record], source: str, table: str) -> _Loads:
    rows = await connection.fetch(_CHANGED, source, table, _LOADS)
    return _Loads(
        [row["batch_id"] for row in rows], [row["before"] for row in rows], [row["finished_at"] for row in rows]
    )
