"""Whether a read is small, medium or large, and how it is cut then."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from flows.declare import Sequence, Timestamp, TransactionId
from flows.kinds.postgres import Table
from flows.kinds.postgres.large.volume import Volume, estimate
from flows.values.plan import Reading, Window
from flows.values.settings import Settings, settings
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def plan_reading(
    origin: Connection[Record], table: Table, shape: Shape, window: Window, path: str
) -> tuple[Reading, Volume]:
    """How the window's rows are to be read, by the source's statistics and the settings' thresholds."""
    volume = await estimate(origin, table, shape, window.expected or window.condition)
    return choose(table, shape, window, path, volume, settings()), volume


def choose(table: Table, shape: Shape, window: Window, path: str, volume: Volume, limits: Settings) -> Reading:
    """The reading for a volume.

    A read from the cursor on is published window by window where an index gives its order. Any other is gathered: by
    pages, the fastest, where a restart can trust the cursor to bring rows that moved meanwhile; by key where a row's
    place must hold without that. With neither, chunks would serve readers side by side only.
    """
    known = Reading(_size(volume, limits), rows=volume.rows, bytes=volume.bytes)
    if known.volume == "small":
        return known
    if path in {"merge", "append"} and (columns := window_columns(table, shape, window, volume)):
        return replace(known, how="windows", by="cursor", columns=columns, restarts=True)
    gathered = replace(known, how="chunks", readers=limits.load_readers if known.volume == "large" else 1)
    if path == "overwrite":
        # Rows that left these partitions join those that were read; a restart could not tell which chunk they are of.
        return replace(gathered, by="page") if volume.has_pages and gathered.readers > 1 else known
    follows_changes = isinstance(table.cursor, Timestamp | TransactionId) and bool(table.keys)
    if volume.has_pages and follows_changes:
        return replace(gathered, by="page", restarts=True)
    if columns := _key_columns(table, shape, volume):
        return replace(gathered, by="key", columns=columns, restarts=True)
    if volume.has_pages and gathered.readers > 1:
        return replace(gathered, by="page")
    return known


def _size(volume: Volume, limits: Settings) -> Literal["small", "medium", "large"]:
    if volume.bytes > limits.large_load_mb * 1e6:
        return "large"
    return "medium" if volume.bytes > limits.medium_load_mb * 1e6 else "small"


def window_columns(table: Table, shape: Shape, window: Window, volume: Volume) -> tuple[str, ...]:
    """The columns along which a window can be cut; none where it has no lower bound or no index has its order."""
    match table.cursor:
        case Timestamp(column=column) if table.keys:
            columns = (column, *(key for key in table.keys if key != column))
        case Sequence(column=column):
            columns = (column,)
        case _:
            return ()
    if window.lower is None or window.upper is None or not volume.index_on(columns[:1]):
        return ()
    return columns if not _nullable(columns[1:], shape) else ()


def _key_columns(table: Table, shape: Shape, volume: Volume) -> tuple[str, ...]:
    """The key in the order of an index on it; for an append without key, the sequence that numbers its rows."""
    columns = table.keys
    if not columns and isinstance(table.cursor, Sequence):
        columns = (table.cursor.column,)
    return () if _nullable(columns, shape) else volume.index_on(columns)


def _nullable(columns: tuple[str, ...], shape: Shape) -> bool:
    return any(column.nullable for name in columns if (column := shape.column(name)))
