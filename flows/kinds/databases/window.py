"""The rows of a foreign table to read, and the next cursor; see `window` for PostgreSQL's."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from flows.declare.cursor import Epoch, Sequence, Timestamp, TransactionId
from flows.declare.database import Engine
from flows.declare.load import Append
from flows.kinds.databases.clocks import earliest_local, epoch, less, parsed, units
from flows.kinds.databases.connection import Reader
from flows.kinds.databases.table import ForeignTable
from flows.kinds.databases.types import TypedColumn
from flows.publish.cursor_types import TIME, higher, refuse_unfit, whole
from flows.publish.identity import Clock, Clocks, joined
from flows.values.errors import SourceError
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.plan import CursorState, Window

# Types in raw of columns with times. SQLite has no such types: they are texts, whose form is looked at.
_TIMES: dict[Engine, re.Pattern[str]] = {"mysql": TIME, "mssql": TIME, "sqlite": re.compile(f"text|{TIME.pattern}")}
# Loaded as text, because PostgreSQL would not keep their digits or their offset.
_MSSQL_TIMES = re.compile("datetime2:7|datetimeoffset.*")
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


async def bounds(reader: Reader, described: ForeignTable, state: CursorState, clock: Clock | None = None) -> Bounds:
    """The rows of the next read and the cursor to store afterwards. Runs before the snapshot.

    `clock` is the warehouse's, just read: a source's clock that was set back is noticed by it.

    Raises:
        SourceError: the cursor's column or its values do not fit the cursor.
    """
    table = described.table
    if table.cursor_column is not None:
        column = described.column(table.cursor_column)
        refuse_unfit(table.cursor, *_types(reader, column, table.cursor), table.name, _TIMES[reader.dialect.engine])
    match table.cursor:
        case None:
            return Bounds()
        case Timestamp() | Epoch() as cursor:
            if reader.dialect.engine == "sqlite":
                return await _newest_bounds(reader, described, cursor, state)
            return await _clock_bounds(reader, described, cursor, state, clock)
        case Sequence() as cursor:
            return await _sequence_bounds(reader, described, cursor, state)
        case TransactionId():
            raise ValueError("this cursor is rejected at declaration for engines other than PostgreSQL")


def _types(reader: Reader, column: TypedColumn, cursor: object) -> tuple[str, str]:
    """The types in raw and at the source by which the cursor is checked."""
    kept_as_text = reader.dialect.engine == "mssql" and _MSSQL_TIMES.fullmatch(column.source_type)
    if kept_as_text:
        return "timestamp without time zone", column.source_type
    if reader.dialect.engine == "sqlite" and not isinstance(cursor, Timestamp) and column.raw_type == "text":
        # Columns of SQLite hold anything; what is in them is looked at.
        return ("numeric" if column.source_type in ("", "any") else column.raw_type), column.source_type
    return column.raw_type, column.source_type or column.raw_type


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


async def _clock_bounds(
    reader: Reader, described: ForeignTable, cursor: Timestamp | Epoch, state: CursorState, clock: Clock | None
) -> Bounds:
    column, table = described.column(cursor.column), described.table.name
    horizon = await _look(reader, await _clock(reader))
    clocks = Clocks.compared(state.identity, horizon.now, clock)
    has_zone = "with time zone" in column.raw_type

    def at(moment: datetime) -> str:
        if isinstance(cursor, Epoch):
            return str(epoch(moment, cursor))
        local = moment if has_zone else earliest_local(moment, cursor.zone_name)
        return local.isoformat(" ", "microseconds")

    def is_before(one: str, other: str) -> bool:
        if isinstance(cursor, Epoch):
            return int(one) < int(other)
        return parsed(one, table).replace(tzinfo=None) < parsed(other, table).replace(tzinfo=None)

    upper = at(min(horizon.now, horizon.oldest or horizon.now) - _GUARD)
    condition, warning, doubt = "1 = 1", horizon.warning, None
    if state.value is not None:
        if is_before(at(horizon.now), state.value):
            doubt = "the source's clock is behind the stored cursor: it was set back, or the source failed over"
        upper = state.value if is_before(upper, state.value) else upper
        warning = joined(warning, clocks.warning)
        condition = _from(reader, column, cursor, state.value, cursor.overlap + clocks.back, table)
    following = CursorState(upper, identity=clocks.seen)
    window = Window(lower=state.value, upper=upper, next=following, warning=warning, doubt=doubt)
    return Bounds(window, f"({condition})")


async def _newest_bounds(
    reader: Reader, described: ForeignTable, cursor: Timestamp | Epoch, state: CursorState
) -> Bounds:
    """SQLite has one writer at a time, so a cursor is the newest value of the snapshot."""
    dialect, column, table = reader.dialect, described.column(cursor.column), described.table.name
    quoted = dialect.column(cursor.column)
    newest = f"max({quoted})" if isinstance(cursor, Epoch) else f"max(replace({quoted}, 'T', ' '))"
    # Numbers sort before texts, and texts before blobs: two ends tell what is in between.
    (row,) = await reader.rows(
        f"select cast({newest} as text) as upper, typeof(min({quoted})) as lowest, typeof(max({quoted})) as highest "
        f"from {dialect.relation(described.table)}"
    )
    kinds = {row["lowest"], row["highest"]} - {"null"}
    if not kinds <= ({"integer", "real"} if isinstance(cursor, Epoch) else {"text"}):
        wanted = "numbers" if isinstance(cursor, Epoch) else "ISO timestamps"
        raise SourceError(
            f"the values of {cursor.column} are not {wanted} throughout ({', '.join(sorted(kinds))})",
            where=table,
            fix="use Epoch(…) for numbers since 1970, Timestamp(…) for ISO timestamps, or another column",
        )
    upper = row["upper"]
    if upper is not None and isinstance(cursor, Timestamp):
        parsed(upper, table)
    fell = None not in (upper, state.value) and (
        float(upper) < float(str(state.value)) if isinstance(cursor, Epoch) else upper < str(state.value)
    )
    doubt = f"the newest {cursor.column} is older than the stored cursor: rows were deleted, or the file was restored"
    upper = upper if upper is not None else state.value
    condition = "1 = 1"
    if state.value is not None:
        condition = _from(reader, column, cursor, state.value, cursor.overlap, table)
    window = Window(lower=state.value, upper=upper, next=CursorState(upper), doubt=doubt if fell else None)
    return Bounds(window, f"({condition})")


def _from(
    reader: Reader, column: TypedColumn, cursor: Timestamp | Epoch, value: str, overlap: timedelta, table: str
) -> str:
    """SQL for the rows from so much before a value on."""
    quoted = reader.dialect.column(cursor.column)
    if isinstance(cursor, Epoch):
        lower = f"{value} - {units(overlap, cursor)}"
    else:
        lower = reader.dialect.literal(less(value, overlap, cursor, table))
    return f"{quoted} >= {lower}" + (f" or {quoted} is null" if column.nullable else "")


async def _sequence_bounds(reader: Reader, described: ForeignTable, cursor: Sequence, state: CursorState) -> Bounds:
    dialect, table = reader.dialect, described.table
    quoted = dialect.column(cursor.column)
    now = datetime.now(UTC) if dialect.engine == "sqlite" else await _clock(reader)
    (row,) = await reader.rows(f"select max({quoted}) as highest from {dialect.relation(table)}")
    highest = whole(row["highest"], cursor, table.name)
    if dialect.engine == "mysql":
        await asyncio.sleep(_INNODB_CACHE_SECONDS)
    horizon = _Horizon(now, None, None) if dialect.engine == "sqlite" else await _look(reader, now)
    safe, pending = state.value, CursorState(pending_value=state.pending_value, pending_at=state.pending_at)

    def ended_since(moment: datetime) -> bool:
        return horizon.oldest is None or horizon.oldest > moment + _GUARD

    if state.pending_at is not None and ended_since(state.pending_at):
        safe, pending = higher(state.value, state.pending_value), CursorState()
    if highest is not None:
        if ended_since(now):
            safe, pending = higher(safe, highest), CursorState()
        elif pending.pending_at is None:
            pending = CursorState(pending_value=highest, pending_at=now)
    condition = "1 = 1"
    if state.value is not None:
        condition = f"{quoted} > {int(state.value) - cursor.lag}"
    below, raw_below = "1 = 1", "true"
    if isinstance(table.load, Append) and not table.keys:
        # Without a key, a row read twice would be duplicated: read only below the horizon.
        below = f"{quoted} <= {int(safe)}" if safe is not None else "1 = 0"
        raw_below = f"{quote_identifier(cursor.column)} <= {quote_literal(safe)}::numeric" if safe else "false"
        condition = f"{condition} and {below}"
    return Bounds(
        Window(
            below=raw_below,
            lower=state.value,
            upper=safe,
            next=CursorState(safe, pending.pending_value, pending.pending_at),
            warning=horizon.warning,
            doubt=f"the highest {cursor.column} is below the stored cursor: rows were deleted, or it began again"
            if highest is not None and state.value is not None and int(highest) < int(state.value)
            else None,
        ),
        f"({condition})",
        f"({below})",
    )
