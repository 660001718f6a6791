"""Classify a read as small, medium or large, and choose how it is chunked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from flows.declare import Epoch, Sequence, Timestamp, TransactionId
from flows.declare.table import Table
from flows.kinds.postgres.large.volume import Volume, estimate
from flows.kinds.postgres.large.within_budget import divides
from flows.publish.budget import Spending
from flows.values.plan import Reading, Window
from flows.values.settings import Settings
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record


# Of fewer, a page may hold more rows than a budget allows: the key divides finer.
_FEW_PAGES = 64


async def plan_reading(
    origin: Connection[Record],
    table: Table,
    shape: Shape,
    window: Window,
    strategy: str,
    spending: Spending,
    limits: Settings,
) -> tuple[Reading, Volume]:
    """How to read the window's rows, by the source's statistics, the thresholds in `limits` and the load's budgets."""
    volume = await estimate(origin, table, shape, window.expected or window.condition)
    return choose(table, shape, window, strategy, volume, limits, spending), volume


def choose(
    table: Table,
    shape: Shape,
    window: Window,
    strategy: str,
    volume: Volume,
    limits: Settings,
    spending: Spending | None = None,
) -> Reading:
    """The reading for a volume.

    A read from the cursor on is published window by window if an index provides its order. Others are gathered: by
    pages, the fastest, if the cursor ensures that a restart reads rows that moved meanwhile; otherwise by key, since
    a row's position must then be stable. With neither, chunks only serve parallel readers.
    """
    known = Reading(_size(volume, limits), rows=volume.rows, bytes=volume.bytes)
    spending = spending or Spending("")
    along = window_columns(table, shape, window, volume) if strategy in {"merge", "append"} else ()
    limited = divides(spending, known, follows_cursor=bool(along))
    if known.volume == "small" and not limited:
        return known
    if along:
        return replace(known, how="windows", by="cursor", columns=along, restarts=True)
    gathered = replace(known, how="chunks", readers=limits.load_readers if known.volume == "large" else 1)
    if strategy == "overwrite":
        # Rows that left these partitions are added to those read; a restart could not assign them to a chunk.
        return replace(gathered, by="page") if volume.has_pages and gathered.readers > 1 else known
    follows_changes = isinstance(table.cursor, Timestamp | Epoch | TransactionId) and bool(table.keys)
    if volume.has_pages and follows_changes and not (limited and volume.pages < _FEW_PAGES):
        return replace(gathered, by="page", restarts=True)
    if columns := _key_columns(table, shape, volume):
        return replace(gathered, by="key", columns=columns, restarts=True)
    if known.volume == "small":
        return known
    if volume.has_pages and gathered.readers > 1:
        return replace(gathered, by="page")
    return known


def _size(volume: Volume, limits: Settings) -> Literal["small", "medium", "large"]:
    if volume.bytes > limits.large_load_mb * 1e6:
        return "large"
    return "medium" if volume.bytes > limits.medium_load_mb * 1e6 else "small"


def window_columns(table: Table, shape: Shape, window: Window, volume: Volume) -> tuple[str, ...]:
    """The columns along which a window can be cut; none if it has no lower bound or no index provides its order."""
    match table.cursor:
        case Timestamp(column=column) | Epoch(column=column) if table.keys and not table.has_masked_key:
            columns = (column, *(key for key in table.keys if key != column))
        case Sequence(column=column):
            columns = (column,)
        case _:
            return ()
    if window.lower is None or window.upper is None or not volume.index_on(columns[:1]):
        return ()
    return columns if not _nullable(columns[1:], shape) else ()


def _key_columns(table: Table, shape: Shape, volume: Volume) -> tuple[str, ...]:
    """The key in the order of its index; for an append without a key, its sequence."""
    columns = table.keys
    if not columns and isinstance(table.cursor, Sequence):
        columns = (table.cursor.column,)
    # Edges between chunks are stored in the warehouse, as the source has the values.
    return () if _nullable(columns, shape) or table.has_masked_key else volume.index_on(columns)


def _nullable(columns: tuple[str, ...], shape: Shape) -> bool:
    return any(column.nullable for name in columns if (column := shape.column(name)))
