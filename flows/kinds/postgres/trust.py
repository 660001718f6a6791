"""The rows of the next read, from the stored cursor if it can still be trusted, and from the beginning otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flows.declare import Overwrite, Sequence
from flows.declare.table import Table
from flows.kinds.postgres.identity import doubt, identify, newest_is_old
from flows.kinds.postgres.window import window as read_window
from flows.publish.identity import Clock, Doubt, can_be_read_again
from flows.values.plan import CursorState, Window
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def trusted_window(
    origin: Connection[Record],
    table: Table,
    shape: Shape,
    state: CursorState,
    where: str,
    clock: Clock | None = None,
) -> tuple[Window, Doubt | None]:
    """The window, and why rows below the stored cursor may differ. A cursor that cannot be trusted is left out.

    Must run outside a transaction, before the snapshot; `clock` is the warehouse's.

    Raises:
        SourceError: the cursor's column or its values do not fit the cursor.
        SourceUnavailable: the source is a standby that is behind what an earlier load has seen.
    """
    identity = await identify(origin, table, shape)
    found = None
    if (table.cursor is not None and state.value is not None) or isinstance(table.load, Overwrite):
        found = await doubt(origin, table, state.identity, identity, where)
    begins = found is not None and (can_be_read_again(table) or not found.cursor_holds)
    window = await read_window(origin, table, shape, CursorState() if begins else state, clock)
    if window.doubt is not None and not await _goes_on(origin, table, state, identity):
        found = Doubt(window.doubt)
        window = await read_window(origin, table, shape, CursorState(), clock)
    return replace(window, next=replace(window.next, identity={**identity, **window.next.identity})), found


async def _goes_on(origin: Connection[Record], table: Table, state: CursorState, identity: dict[str, Any]) -> bool:
    """Whether the highest number is below the stored one because the newest rows were deleted: the sequence is beyond
    the stored value, or the row with the highest number is old. Later rows have higher numbers then."""
    if not isinstance(table.cursor, Sequence) or state.value is None:
        return False
    lasts = [last for _, last, is_tied in identity["sequences"].values() if is_tied and last is not None]
    return any(last >= int(state.value) for last in lasts) or await newest_is_old(
        origin, table, state.identity, identity
    )
