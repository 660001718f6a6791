"""Compare two tables by checksums of buckets, then key by key inside the differing buckets.

Only checksums are transferred for buckets; then keys and row hashes of differing buckets, as two streams in the order
of the keys' hashes. Memory: one level of checksums and a page of each stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from flows.values.checksum import Key, RowSet

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# 256 rows per bucket: ten differences then transfer 2,560 keys. More buckets than 16,384 cost more than they save.
_ROWS_PER_BUCKET = 256
_MOST_BITS = 14
# A bucket with more rows is split again, by 64: tables beyond 16,384 x 4,096 = 67 million rows take one more scan.
_LARGE_BUCKET = 4_096
_FURTHER_BITS = 6
_DEEPEST_BITS = 44
# If this many buckets differ, differences are everywhere, and splitting excludes nothing.
_TOO_MANY_BUCKETS = 1_024
_PREFETCH = 2_000

Checksums = dict[int, tuple[int, Decimal]]


@dataclass(slots=True)
class Drill:
    """The progress of a comparison: rows on each side, checksums compared, and the differing buckets."""

    source_rows: int
    raw_rows: int
    buckets: int
    bits: int
    differing: list[int]


@dataclass(frozen=True, slots=True)
class Difference:
    """A key whose rows differ: `missing`, `extra` or `different` in raw, or `duplicate` at the source."""

    kind: str
    key: Key


def first_bits(rows: int) -> int:
    """The number of buckets, as a power of two, for a table of about so many rows (-1: unknown)."""
    if rows < 0:
        return 12
    return min(_MOST_BITS, max(0, (rows // _ROWS_PER_BUCKET).bit_length()))


async def narrow(
    origin: Connection[Record], source: RowSet, warehouse: Connection[Record], raw: RowSet, estimated_rows: int
) -> Drill:
    """Find the differing buckets. Both connections are in the snapshots to compare; both sides scan in parallel."""
    bits = first_bits(estimated_rows)
    at_source, in_raw = await asyncio.gather(_checksums(origin, source, bits), _checksums(warehouse, raw, bits))
    drill = Drill(_rows(at_source), _rows(in_raw), 2**bits, bits, _differing(at_source, in_raw))
    while (
        0 < len(drill.differing) <= _TOO_MANY_BUCKETS
        and _rows(at_source, drill.differing) + _rows(in_raw, drill.differing)
        > 2 * _LARGE_BUCKET * len(drill.differing)
        and drill.bits < _DEEPEST_BITS
    ):
        finer = drill.bits + _FURTHER_BITS
        at_source, in_raw = await asyncio.gather(
            _checksums(origin, source, finer, drill.bits, drill.differing),
            _checksums(warehouse, raw, finer, drill.bits, drill.differing),
        )
        drill.buckets += len(drill.differing) * 2**_FURTHER_BITS
        drill.bits, drill.differing = finer, _differing(at_source, in_raw)
    return drill


async def _checksums(
    connection: Connection[Record], rows: RowSet, bits: int, within: int | None = None, parents: list[int] | None = None
) -> Checksums:
    arguments = [] if parents is None else [parents]
    records = await connection.fetch(rows.buckets(bits, within), *arguments)
    return {record["bucket"]: (record["rows"], record["mark"]) for record in records}


def _differing(at_source: Checksums, in_raw: Checksums) -> list[int]:
    return sorted(bucket for bucket in at_source.keys() | in_raw.keys() if at_source.get(bucket) != in_raw.get(bucket))


def _rows(checksums: Checksums, buckets: list[int] | None = None) -> int:
    chosen = checksums if buckets is None else buckets
    return sum(checksums[bucket][0] for bucket in chosen if bucket in checksums)


async def differences(
    origin: Connection[Record], source: RowSet, warehouse: Connection[Record], raw: RowSet, drill: Drill
) -> AsyncGenerator[Difference, None]:
    """The differing keys of differing buckets. A key that several rows of the source have differs, whatever raw has."""
    if not drill.differing:
        return
    left, right = _groups(origin, source, drill), _groups(warehouse, raw, drill)
    ours, theirs = await anext(left, None), await anext(right, None)
    while ours is not None or theirs is not None:
        place = min(group[0] for group in (ours, theirs) if group is not None)
        at_source = ours[1] if ours is not None and ours[0] == place else {}
        in_raw = theirs[1] if theirs is not None and theirs[0] == place else {}
        for key in at_source.keys() | in_raw.keys():
            if len(at_source.get(key, ())) > 1 and None not in key:
                yield Difference("duplicate", key)
            elif key not in in_raw:
                yield Difference("missing", key)
            elif key not in at_source:
                yield Difference("extra", key)
            elif not set(at_source[key]) & set(in_raw[key]):
                yield Difference("different", key)
        if at_source:
            ours = await anext(left, None)
        if in_raw:
            theirs = await anext(right, None)


_Group = tuple[int, dict[Key, list[int]]]


async def _groups(connection: Connection[Record], rows: RowSet, drill: Drill) -> AsyncIterator[_Group]:
    """Rows with the same key hash: nearly always one. The row hashes of each key."""
    place, group = 0, dict[Key, list[int]]()
    async for record in connection.cursor(rows.rows(drill.bits), drill.differing, prefetch=_PREFETCH):
        if record["hash"] != place and group:
            yield place, group
            group = {}
        place = record["hash"]
        group.setdefault(tuple(record["key"]), []).append(record["mark"])
    if group:
        yield place, group
