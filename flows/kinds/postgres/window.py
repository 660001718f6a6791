"""The rows to read, and the next cursor, so that late commits are not lost.

A transaction's now() is its start, but its rows become visible at its commit. A cursor that stores the highest value
seen would skip rows of transactions that are still open. Here the cursor never passes the oldest transaction that was
open at the source before the snapshot was taken. Rows beyond it are read too, if a key makes reading them twice
harmless: a transaction that is open for hours delays no row, it only makes reads overlap.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flows.declare.cursor import Epoch, Sequence, Timestamp, TransactionId
from flows.declare.load import Append, Overwrite
from flows.declare.table import Table
from flows.kinds.postgres.large.slices import beyond
from flows.kinds.postgres.partitions import partition_window
from flows.kinds.postgres.positions import Place, number_type
from flows.publish.cursor_types import higher, refuse_unfit, whole
from flows.publish.identity import Clock, Clocks, joined
from flows.values.errors import SourceError
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.plan import CursorState, Window
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# A backend sets its transaction's time shortly before pg_stat_activity shows it; a busy machine extends that gap.
_GUARD = timedelta(seconds=1)

# Transaction ids are stored in 32 bits and wrap around.
_XID_CIRCLE = 2**32
_UPCOMING = "pg_snapshot_xmax(pg_current_snapshot())::text::bigint"

_OLDEST = """
select
    clock.now,
    (
        select min(xact_start) from pg_stat_activity
        where
            datname = current_database() and pid <> pg_backend_pid() and backend_type <> 'autovacuum worker'
            -- Our own readers, which are opened read-only: they would hold each other's cursors back.
            and not (usename = current_user and application_name like 'medallion read %')
            -- Looked at after the clock was read, whatever the planner prefers.
            and clock.now is not null
    ) as oldest,
    exists (select from pg_prepared_xacts where database = current_database() and clock.now is not null) as prepared,
    exists (select from pg_stat_activity where datname = current_database() and state = 'disabled') as hidden,
    pg_is_in_recovery() as standby,
    case when pg_is_in_recovery() then pg_last_xact_replay_timestamp() end as replayed,
    pg_has_role(current_user, 'pg_read_all_stats', 'usage') as sees_all
from (select clock_timestamp() as now from (select pg_stat_clear_snapshot() offset 0) as anew offset 0) as clock
"""


@dataclass(frozen=True, slots=True)
class Horizon:
    """The transactions open at the source just after `now`, by the source's own clock.

    `shown` is the time up to which a standby shows its primary's commits, by the primary's clock; None on a primary.
    """

    now: datetime
    oldest: datetime | None
    prepared: bool
    warning: str | None
    shown: datetime | None = None
    is_shown: bool = True

    @property
    def stamp(self) -> datetime | None:
        """No transaction that can still commit or become visible began before this; None if unknown.

        The start of a prepared transaction is unknown; so is the delay of a standby that has replayed no commit yet.
        """
        if self.prepared or not self.is_shown:
            return None
        return min(moment for moment in (self.now, self.oldest, self.shown) if moment is not None) - _GUARD

    def all_ended_since(self, moment: datetime) -> bool:
        """Whether every transaction open at `moment` has ended."""
        return not self.prepared and (self.oldest is None or self.oldest > moment)


async def look(connection: Connection[Record], now: datetime | None = None) -> Horizon:
    """The source's horizon, before the snapshot that reads the rows.

    The clock is read before the open transactions, so a transaction that began before the clock was read is either
    seen, or has ended and will be in the snapshot. In a transaction PostgreSQL shows the sessions that it showed first,
    however long ago, unless asked to look again.
    """
    row = await connection.fetchrow(_OLDEST)
    assert row is not None  # there is one clock
    now = now or row["now"]
    warning = None
    if row["standby"]:
        warning = "the source is a standby: open transactions of its primary are not visible, only the lag covers them"
    elif not row["sees_all"]:
        warning = "no privilege to see other sessions (grant pg_read_all_stats): only the lag covers late commits"
    elif row["hidden"]:
        warning = "sessions with track_activities off do not show their transactions: only the lag covers late commits"
    is_shown = not row["standby"] or row["replayed"] is not None
    return Horizon(now, row["oldest"], row["prepared"], warning, row["replayed"], is_shown)


async def window(
    connection: Connection[Record], table: Table, shape: Shape, state: CursorState, clock: Clock | None = None
) -> Window:
    """The rows of the next read and the cursor to store afterwards.

    `clock` is the warehouse's, just read: a source's clock that was set back is noticed by it. Must run outside a
    transaction, before the snapshot.

    Raises:
        SourceError: the cursor's column or its values do not fit the cursor.
    """
    if table.cursor_column is not None and (column := shape.column(table.cursor_column)):
        refuse_unfit(table.cursor, column.raw_type, column.raw_type, table.name)
    following = await _cursor_window(connection, table, shape, state, clock)
    if isinstance(table.load, Overwrite):
        # Listed after the horizon was read: a row that becomes visible later is beyond the cursor to be stored.
        horizon = await look(connection)
        return await partition_window(
            connection, table, table.load, shape, following, (horizon.now, horizon.stamp), state.identity.get("reached")
        )
    return following


async def _cursor_window(
    connection: Connection[Record], table: Table, shape: Shape, state: CursorState, clock: Clock | None
) -> Window:
    match table.cursor:
        case None:
            return Window()
        case Timestamp() | Epoch() as cursor:
            return await _clock_window(connection, table, cursor, shape, state, clock)
        case Sequence() as cursor:
            return await _sequence_window(connection, table, cursor, shape, state)
        case TransactionId():
            return await _transaction_window(connection, table, state)


async def _clock_window(
    connection: Connection[Record],
    table: Table,
    cursor: Timestamp | Epoch,
    shape: Shape,
    state: CursorState,
    clock: Clock | None,
) -> Window:
    rest = tuple(key for key in table.keys if key != cursor.column)
    column = shape.column(cursor.column)
    assert column is not None  # describe() has refused a table without it
    horizon = await look(connection)
    clocks = Clocks.compared(state.identity, horizon.now, clock)
    place = Place.of(cursor, column.raw_type)
    now, upper = await place.at(connection, horizon.now, horizon.stamp)
    # If unknown, the cursor does not move: hidden transactions began after the last horizon, or were held back by it.
    upper = state.value if horizon.stamp is None else upper
    condition, expected, warning, doubt = "true", None, horizon.warning, None
    if state.value is not None:
        now_is_before, upper_is_before = await place.are_before(connection, (now, upper), state.value)
        if now_is_before:
            doubt = "the source's clock is behind the stored cursor: it was set back, or the source failed over"
        if upper is not None and upper_is_before:
            # A standby that shows less than was seen, or a transaction that was not visible before: what is below the
            # stored value was read, so the cursor stays.
            upper = state.value
        overlap, warning = cursor.overlap + clocks.back, joined(warning, clocks.warning)
        name = quote_identifier(cursor.column)
        condition = f"{name} >= {place.lower(state.value, overlap)}"
        # Of a key with masks, the source cannot be asked for what is beyond a value of raw.
        after = json.loads(state.key) if state.key is not None and not table.has_masked_key else []
        if after and len(after) == len(rest) and not overlap:
            # Some of the rows with this value are already loaded.
            # The planner uses only the first column of the pair, and estimates zero rows if all rows share its value.
            expected = condition
            condition = beyond((cursor.column, *rest), (state.value, *after))
        condition += f" or {name} is null" if column.nullable else ""
    return Window(
        condition=f"({condition})",
        lower=state.value,
        upper=upper,
        next=CursorState(upper, identity=clocks.seen),
        warning=warning,
        expected=expected,
        doubt=doubt,
    )


async def _sequence_window(
    connection: Connection[Record], table: Table, cursor: Sequence, shape: Shape, state: CursorState
) -> Window:
    name = quote_identifier(cursor.column)
    relation = table.relation
    row = await connection.fetchrow(f"select max({name})::text as highest, clock_timestamp() as now from {relation}")
    assert row is not None  # an aggregate always answers one row
    highest = whole(row["highest"], cursor, table.name)
    horizon = await look(connection, row["now"])
    kind = number_type(shape, cursor.column)
    safe = state.value
    pending = CursorState(pending_value=state.pending_value, pending_at=state.pending_at)
    if state.pending_at is not None and horizon.all_ended_since(state.pending_at):
        safe, pending = higher(state.value, state.pending_value), CursorState()
    if highest is not None:
        if horizon.all_ended_since(horizon.now):
            safe, pending = higher(safe, highest), CursorState()
        elif pending.pending_at is None:
            pending = CursorState(pending_value=highest, pending_at=horizon.now)
    condition = "true"
    if state.value is not None:
        condition = f"{name} > {quote_literal(state.value)}::{kind} - {cursor.lag}"
    below = "true"
    if isinstance(table.load, Append) and not table.keys:
        # Without a key, a row read twice would be duplicated: read only below the horizon.
        below = f"{name} <= {quote_literal(safe)}::{kind}" if safe is not None else "false"
        condition = f"{condition} and {below}"
    fell = highest is not None and state.value is not None and int(highest) < int(state.value)
    return Window(
        condition=f"({condition})",
        below=below,
        lower=state.value,
        upper=safe,
        next=CursorState(safe, pending.pending_value, pending.pending_at),
        warning=horizon.warning,
        doubt=f"the highest {cursor.column} is below the stored cursor: its sequence was restarted" if fell else None,
    )


async def _transaction_window(connection: Connection[Record], table: Table, state: CursorState) -> Window:
    """Rows of transactions that had not ended at the last read.

    A snapshot has the oldest running transaction, including prepared ones; every older one has ended, and its rows were
    visible. Subtransactions have higher ids than their parent transaction, so they are not older.
    """
    row = await connection.fetchrow(
        "select pg_snapshot_xmin(s)::text as oldest, pg_snapshot_xmax(s)::text as upcoming, c.oid::text as relation, "
        "c.relkind in ('r', 'p', 'm') as has_rows from pg_current_snapshot() as s, pg_class as c "
        "where c.oid = to_regclass($1)",
        table.catalogued,
    )
    assert row is not None  # describe() has refused a missing table
    if not row["has_rows"]:
        raise SourceError(
            f"{table.schema}.{table.at_source} is not a table: its rows have no id of the transaction that wrote them",
            where=table.name,
            fix="declare the underlying table, or another cursor, or none",
        )
    following = Window(upper=row["oldest"], next=CursorState(row["oldest"], key=row["relation"]))
    if state.value is None:
        return following
    seen, upcoming = int(state.value), int(row["upcoming"])
    if int(row["oldest"]) < seen <= upcoming:
        # A standby may show less than was seen; transactions below the stored id have ended, and were read.
        following = replace(following, upper=state.value, next=replace(following.next, value=state.value))
    if state.key != row["relation"] or seen > upcoming:
        return replace(following, warning="the table was recreated since the last load: a full read follows")
    if upcoming - seen >= _XID_CIRCLE:
        return replace(following, warning="the cursor is older than transaction ids are kept: a full read follows")
    # Rows have the lower 32 bits of the id. Counted from the last read, ids are distinct for a full wraparound; an old
    # row whose bits look new is read again, which merging makes harmless. The end is the reading snapshot's.
    distance = f"(xmin::text::bigint - {seen % _XID_CIRCLE} + {_XID_CIRCLE}) % {_XID_CIRCLE}"
    ahead = f"(select {_UPCOMING} - {seen})"
    return replace(following, condition=f"({distance} < {ahead})", lower=state.value)
