"""A table whose changes are lost, brought up to date by comparing checksums of key ranges instead of copying it.

Both ends send a checksum per bucket of about eight rows, in order, so that memory does not grow with the table; then
keys and row hashes of the buckets that differ; then the source sends the differing rows. With one row in a hundred
changed, 8 % of such buckets differ; of buckets of 256 rows, as `medallion reconcile` has them, it would be 92 %.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.declare.table import Table
from flows.kinds.postgres.compare import source_rows
from flows.kinds.postgres.compare.narrow import Drill, differences
from flows.landing.table import Target
from flows.publish import raw_rows
from flows.values.checksum import PROBE, Key, RowSet
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_ROWS_PER_BUCKET = 8
_MOST_BITS = 40
_PREFETCH = 5_000
# Beyond this, keys and hashes of the differing buckets are half of what a copy is.
_MOST_DIFFERING = 0.4
_FEW_BUCKETS = 64
# 200,000 keys are some 40 MB.
_MOST_KEYS = 200_000


@dataclass(slots=True)
class Found:
    """Keys to read from the source, keys that only raw has, and how many rows the source has."""

    source_rows: int = 0
    read: list[Key] = field(default_factory=list)
    gone: list[Key] = field(default_factory=list)


async def find(
    origin: Connection[Record], warehouse: Connection[Record], target: Target, table: Table, shape: Shape
) -> Found | None:
    """What differs, in the snapshots of both connections' transactions; None if it is too much to be worth it."""
    portable = await origin.fetchrow(PROBE) != await warehouse.fetchrow(PROBE)
    source = source_rows.row_set(table, shape, portable=portable)
    raw = raw_rows.row_set(target, shape, table.keys, portable=portable)
    rows = int(await warehouse.fetchval(f"select count(*) from {target.raw}"))
    bits = min(_MOST_BITS, max(0, (rows // _ROWS_PER_BUCKET).bit_length()))
    drill = await _drill(origin, source, warehouse, raw, bits)
    if drill is None:
        return None
    found = Found(drill.source_rows)
    async for difference in differences(origin, source, warehouse, raw, drill):
        (found.gone if difference.kind == "extra" else found.read).append(difference.key)
        if len(found.read) + len(found.gone) > _MOST_KEYS:
            return None
    return found


async def _drill(
    origin: Connection[Record], source: RowSet, warehouse: Connection[Record], raw: RowSet, bits: int
) -> Drill | None:
    drill = Drill(0, 0, 2**bits, bits, [])
    most = max(_FEW_BUCKETS, int(2**bits * _MOST_DIFFERING))
    left, right = _buckets(origin, source, bits), _buckets(warehouse, raw, bits)
    ours, theirs = await anext(left, None), await anext(right, None)
    while ours is not None or theirs is not None:
        place = min(found["bucket"] for found in (ours, theirs) if found is not None)
        at_source = ours if ours is not None and ours["bucket"] == place else None
        in_raw = theirs if theirs is not None and theirs["bucket"] == place else None
        if at_source != in_raw:
            drill.differing.append(place)
            if len(drill.differing) > most:
                return None
        if at_source is not None:
            drill.source_rows += at_source["rows"]
            ours = await anext(left, None)
        if in_raw is not None:
            drill.raw_rows += in_raw["rows"]
            theirs = await anext(right, None)
    return drill


async def _buckets(connection: Connection[Record], rows: RowSet, bits: int) -> AsyncIterator[Record]:
    async for record in connection.cursor(f"{rows.buckets(bits)} order by 1", prefetch=_PREFETCH):
        yield record


def same_columns(shape: Shape, raw: dict[str, str]) -> bool:
    """Whether raw has all columns of the source with their types, so that rows can be compared."""
    return all(raw.get(column.name) == column.raw_type for column in shape.columns)
