"""The rows of a foreign table to read, and the next cursor; see `window` for PostgreSQL's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from flows.declare.cursor import Sequence, Timestamp, TransactionId
from flows.declare.load import Append
from flows.kinds.databases.connection import Reader
from flows.kinds.databases.table import ForeignTable
from flows.values.errors import SourceError
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.plan import CursorState, Window

# innodb_trx has the start of a transaction to the second, and is up to 0.1 s old.
_GUARD = timedelta(seconds=2)
# InnoDB returns a cached copy if innodb_trx was read within the last 0.1 s; this covers four tables read in parallel.
_INNODB_CACHE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Bounds:
    """The rows of one read. `window` is PostgreSQL's SQL, `condition` and `below` are the same in the source's SQL."""

    window: Window = field(default_factory=Window)
    condition: str = "1 = 1"
    below: str = "1 = 1"


async def bounds(reader: Reader, described: ForeignTable, state: CursorState) -> Bounds:
    """The rows of the next read and the cursor to store afterwards. Runs before the snapshot.

    Raises:
        SourceError: the cursor's values cannot be compared.
    """
    match described.table.cursor:
        case None:
            return Bounds()
        case Timestamp() as cursor:
            return await _timestamp_bounds(reader, described, cursor, state)
        case Sequence() as cursor:
            return await _sequence_bounds(reader, described, cursor, state)
        case TransactionId():
            raise ValueError("this cursor is rejected at declaration for engines other than PostgreSQL")


@dataclass(frozen=True, slots=True)
class _Horizon:
    now: datetime
    oldest: datetime | None
    warning: str | None


async def _clock(reader: Reader) -> datetime:
    (row,) = await reader.rows(reader.dialect.clock)
    return datetime.fromisoformat(row["now"]).replace(tzinfo=UTC)


async def _look(reader: Reader, now: datetime) -> _Horizon:
    """The transactions open at the source just after `now`, by the source's own clock."""
    (row,) = await reader.rows(reader.dialect.caution)
    warning = None
    if row["replica"]:
        warning = (
            "the source is read-only, probably a replica: open transactions of its primary are not visible, only the "
            "lag covers them"
        )
    try:
        (row,) = await reader.rows(reader.dialect.oldest)
    except SourceError as problem:
        if problem.retryable:
            raise
        right = "process" if reader.dialect.engine == "mysql" else "view server state"
        unseen = f"no privilege to see open transactions (grant {right}): only the lag covers late commits"
        return _Horizon(now, None, unseen)
    if row["age"] is None:
        return _Horizon(now, None, warning)
    seen = datetime.fromisoformat(row["now"]).replace(tzinfo=UTC)
    return _Horizon(now, seen - timedelta(microseconds=int(row["age"])), warning)


async def _timestamp_bounds(reader: Reader, described: ForeignTable, cursor: Timestamp, state: CursorState) -> Bounds:
    dialect, column = reader.dialect, described.column(cursor.column)
    quoted, warning = dialect.column(cursor.column), None
    if dialect.engine == "sqlite":
        (row,) = await reader.rows(
            f"select max(replace({quoted}, 'T', ' ')) as upper from {dialect.relation(described.table)} "
            f"where typeof({quoted}) = 'text'"
        )
        upper = row["upper"] if row["upper"] is not None else state.value
    else:
        horizon = await _look(reader, await _clock(reader))
        warning = horizon.warning
        stamp = min(horizon.now, horizon.oldest or horizon.now) - _GUARD
        if "with time zone" not in column.raw_type:
            stamp = stamp.astimezone(ZoneInfo(cursor.zone)).replace(tzinfo=None)
        upper = stamp.isoformat(" ", "microseconds")
    condition = "1 = 1"
    if state.value is not None:
        lower = dialect.literal(_less(state.value, cursor.overlap, described.table.name))
        condition = f"{quoted} >= {lower}" + (f" or {quoted} is null" if column.nullable else "")
    return Bounds(Window(lower=state.value, upper=upper, next=CursorState(upper), warning=warning), f"({condition})")


def _less(value: str, overlap: timedelta, table: str) -> str:
    """The timestamp minus the lag, in the form that sorts before every other form of the same timestamp.

    Seconds without a fraction and a blank before the time: as text it is never greater than what it stands for.
    """
    try:
        moment = datetime.fromisoformat(value.replace("Z", "+00:00")) - overlap
    except ValueError:
        raise SourceError(
            "the cursor's values are not ISO timestamps",
            where=table,
            fix="use Sequence(…) for numbers, or another column",
        ) from None
    return moment.replace(tzinfo=None, microsecond=0).isoformat(" ")


async def _sequence_bounds(reader: Reader, described: ForeignTable, cursor: Sequence, state: CursorState) -> Bounds:
    dialect, table = reader.dialect, described.table
    quoted = dialect.column(cursor.column)
    now = datetime.now(UTC) if dialect.engine == "sqlite" else await _clock(reader)
    (row,) = await reader.rows(f"select max({quoted}) as highest from {dialect.relation(table)}")
    highest = None if row["highest"] is None else str(int(row["highest"]))
    if dialect.engine == "mysql":
        await asyncio.sleep(_INNODB_CACHE_SECONDS)
    horizon = _Horizon(now, None, None) if dialect.engine == "sqlite" else await _look(reader, now)
    safe, pending = state.value, CursorState(pending_value=state.pending_value, pending_at=state.pending_at)

    def ended_since(moment: datetime) -> bool:
        return horizon.oldest is None or horizon.oldest > moment + _GUARD

    if state.pending_at is not None and ended_since(state.pending_at):
        safe, pending = state.pending_value, CursorState()
    if highest is not None:
        if ended_since(now):
            safe, pending = highest, CursorState()
        elif pending.pending_at is None:
            pending = CursorState(pending_value=highest, pending_at=now)
    condition = "1 = 1"
    if state.value is not None:
        condition = f"{quoted} > {int(state.value) - cursor.lag}"
    below, raw_below = "1 = 1", "true"
    if isinstance(table.load, Append) and not table.keys:
        # Without a key, a row read twice would be duplicated: read only below the horizon.
        below = f"{quoted} <= {int(safe)}" if safe is not None else "1 = 0"
        raw_below = f"{quote_identifier(cursor.column)} <= {quote_literal(safe)}::bigint" if safe else "false"
        condition = f"{condition} and {below}"
    return Bounds(
        Window(
            below=raw_below,
            lower=state.value,
            upper=safe,
            next=CursorState(safe, pending.pending_value, pending.pending_at),
            warning=horizon.warning,
        ),
        f"({condition})",
        f"({below})",
    )
