"""Compare source and raw by content without transferring the table; optionally repair the differences."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from flows.declare import Append, Overwrite
from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.postgres.compare import source_rows as extract_buckets
from flows.kinds.postgres.compare.both_ends import Ends, snapshots
from flows.kinds.postgres.compare.narrow import Difference, differences, narrow
from flows.kinds.postgres.table import count
from flows.publish import raw_rows as load_buckets
from flows.publish.identity import joined
from flows.quality import open_rows
from flows.quality.open_rows import document_within, open_digests
from flows.state.reconciliations import Reconciliation
from flows.values.checksum import Key
from flows.values.connection import DatabaseConnection
from flows.values.identifiers import quote_identifier, quote_literal

if TYPE_CHECKING:
    from asyncpg import Record

# Keys looked up per query, to separate pending and quarantined rows from differences.
_KEYS_LOOKED_UP = 2_000
# Keys kept per round of a repair. 50,000 keys are some 10 MB.
_KEYS_KEPT = 50_000
_KEYS_SHOWN = 10

_KINDS = ("missing", "extra", "different", "duplicate", "quarantined", "pending")


@dataclass(slots=True)
class _Found:
    """Keys by result; those to repair, up to a bound, and samples per kind."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_KINDS, 0))
    to_repair: list[Key] = field(default_factory=list)
    shown: dict[str, list[list[str | None]]] = field(default_factory=dict)

    def add(self, kind: str, key: Key) -> None:
        self.counts[kind] += 1
        if kind in ("quarantined", "pending"):
            return
        # Reading a key again that is not unique brings all of its rows again.
        if kind != "duplicate" and len(self.to_repair) < _KEYS_KEPT and None not in key:
            self.to_repair.append(key)
        if len(examples := self.shown.setdefault(kind, [])) < _KEYS_SHOWN:
            examples.append(list(key))


Pending = Callable[[Ends, Sequence[Key]], Awaitable[set[Key]]]
"""Which of these keys have changed at the source since raw's position, for kinds that know."""


async def compare_table(
    warehouse_address: DatabaseConnection,
    origin_address: DatabaseConnection,
    source: Database,
    table: Table,
    pending: Pending | None = None,
) -> tuple[Reconciliation, list[Key]]:
    """Compare every live row of raw with the source by content; returns the keys that differ, for a repair.

    A table without a key is compared as a whole, and cannot be repaired. `pending`: keys with changes that the next
    load brings.

    Raises:
        MedallionError: see `flows.values.errors`.
    """
    started = time.monotonic()
    result, keys = Reconciliation(source.name, table.name, "content", "not_compared"), list[Key]()
    async with snapshots(warehouse_address, origin_address, source, table) as ends:
        if ends is not None:
            if table.keys:
                result, keys = await _compare_by_key(ends, table, result, pending)
            else:
                result, keys = await _compare_whole(ends, table, result)
            if ends.not_compared:
                note = f"not compared, because missing in raw or of another type there: {', '.join(ends.not_compared)}"
                result = replace(result, note=joined(result.note, note))
            if table.masked:
                note = f"hashes and masks were compared, not the values behind them: {', '.join(table.masked)}"
                result = replace(result, note=joined(result.note, note))
    return replace(result, seconds=time.monotonic() - started), keys


async def _compare_by_key(
    ends: Ends, table: Table, result: Reconciliation, pending: Pending | None
) -> tuple[Reconciliation, list[Key]]:
    source = extract_buckets.row_set(table, ends.shape, portable=ends.portable)
    raw = load_buckets.row_set(ends.target, ends.shape, table.keys, portable=ends.portable)
    drill = await narrow(ends.origin, source, ends.warehouse, raw, ends.shape.estimated_rows)
    found = _Found()
    in_quarantine = await _count_open(ends) > 0
    fixed = set[Key]()
    if in_quarantine:
        kinds = {name: column.raw_type for name in table.keys if (column := ends.shape.column(name))}
        fixed = await open_rows.keys_fixed_by_hand(ends.warehouse, kinds, table=ends.target.name)
    batch: list[Difference] = []
    found_first = differences(ends.origin, source, ends.warehouse, raw, drill)
    async for difference in found_first if pending is None else _not_pending(ends, found_first, found, pending):
        if difference.kind in {"extra", "duplicate"}:
            found.add("quarantined" if difference.key in fixed else difference.kind, difference.key)
            continue
        batch.append(difference)
        if len(batch) == _KEYS_LOOKED_UP:
            await _tell_apart(ends, table, batch, found, in_quarantine)
            batch = []
    if batch:
        await _tell_apart(ends, table, batch, found, in_quarantine)
    result = replace(
        result,
        source_rows=drill.source_rows,
        raw_rows=drill.raw_rows,
        buckets=drill.buckets,
        drilled=len(drill.differing),
        missing=found.counts["missing"],
        extra=found.counts["extra"],
        different=found.counts["different"],
        duplicate=found.counts["duplicate"],
        quarantined=found.counts["quarantined"],
        pending=found.counts["pending"],
        keys=found.shown,
    )
    note = None
    if result.differences and pending is None and table.cursor is None and not isinstance(table.load, Overwrite):
        note = "without a cursor, changes since the last load count as differences"
    if result.duplicate:
        note = "; ".join(part for part in (note, "several rows of the source have one key") if part)
    return replace(result, result="different" if result.differences else "match", note=note), found.to_repair


async def _not_pending(
    ends: Ends, differing: AsyncIterator[Difference], found: _Found, pending: Pending
) -> AsyncGenerator[Difference, None]:
    """The differences without those that the next load brings, which are counted."""
    batch: list[Difference] = []

    async def divided() -> list[Difference]:
        waiting = await pending(ends, [difference.key for difference in batch])
        for difference in batch:
            if difference.key in waiting:
                found.add("pending", difference.key)
        return [difference for difference in batch if difference.key not in waiting]

    async for difference in differing:
        batch.append(difference)
        if len(batch) == _KEYS_LOOKED_UP:
            for rest in await divided():
                yield rest
            batch = []
    for rest in await divided() if batch else []:
        yield rest


async def _tell_apart(ends: Ends, table: Table, batch: list[Difference], found: _Found, in_quarantine: bool) -> None:
    """Classify source rows that are missing or different in raw: quarantined, pending, or a difference."""
    versions = await extract_buckets.versions(
        ends.origin,
        table,
        ends.shape,
        [difference.key for difference in batch],
        ends.next_read,
        list(dict.fromkeys((ends.shape, ends.whole_shape))) if in_quarantine else (),
    )
    known = set[str]()
    if in_quarantine:
        digests = [digest for rows in versions.values() for version in rows for digest in version.digests]
        known = await open_digests(ends.warehouse, digests, table=ends.target.name)
    for difference in batch:
        rest = [row for row in versions.get(difference.key, []) if not row.digests & known]
        # An append skips existing rows: the next load brings only missing ones.
        next_load_helps = difference.kind == "missing" or not isinstance(table.load, Append)
        kind = difference.kind
        if not rest:
            kind = "quarantined"
        elif next_load_helps and all(row.waits for row in rest):
            kind = "pending"
        found.add(kind, difference.key)


async def _compare_whole(ends: Ends, table: Table, result: Reconciliation) -> tuple[Reconciliation, list[Key]]:
    """Without a key: counts, and one checksum over the rows that no future load will change."""
    loaded, aside, waiting, waiting_in_raw = "true", "true", 0, 0
    if isinstance(table.load, Overwrite):
        column = ends.shape.column(table.load.by)
        assert column is not None  # describe() has refused a table without it
        loaded = f"({ends.next_read}) is not true"
        aside = f"not {document_within(column.name, column.raw_type, ends.next_read)}"
        coming, held = await _sums(ends, table, ends.next_read, ends.next_read)
        waiting, waiting_in_raw = (0 if coming == held else coming["rows"]), held["rows"]
    elif table.cursor_column is not None:
        # Such rows are appended up to the cursor, each once.
        name = quote_identifier(table.cursor_column)
        loaded = f"{name} <= {quote_literal(ends.state.value)}::bigint" if ends.state.value is not None else "false"
        waiting = await count(ends.origin, table, f"({loaded}) is not true")
    at_source, in_raw = await _sums(ends, table, loaded, loaded if isinstance(table.load, Overwrite) else "true")
    quarantined = await _count_open(ends, aside)
    lacking = at_source["rows"] - in_raw["rows"] - quarantined
    note = "without a key, differing rows cannot be identified"
    equal = lacking == 0
    if quarantined:
        note = "without a key and with quarantined rows, only counts are compared"
    else:
        equal = equal and at_source["mark"] == in_raw["mark"]
    result = replace(
        result,
        method="content without key",
        result="match" if equal else "different",
        source_rows=await count(ends.origin, table),
        raw_rows=in_raw["rows"] + waiting_in_raw,
        buckets=1,
        missing=max(0, lacking),
        extra=max(0, -lacking),
        quarantined=quarantined,
        pending=waiting,
        note=note,
    )
    return result, []


async def _sums(ends: Ends, table: Table, at_source: str, in_raw: str) -> tuple[Record, Record]:
    """Rows and checksum of the selected rows on each side."""
    source = extract_buckets.row_set(table, ends.shape, at_source, portable=ends.portable)
    raw = load_buckets.row_set(ends.target, ends.shape, (), portable=ends.portable)
    raw = replace(raw, condition=f"{raw.condition} and ({in_raw})")
    sums = await ends.origin.fetchrow(source.whole()), await ends.warehouse.fetchrow(raw.whole())
    assert sums[0] is not None  # an aggregate always answers one row
    assert sums[1] is not None
    return sums[0], sums[1]


async def _count_open(ends: Ends, within: str = "true") -> int:
    return await open_rows.count_open(ends.warehouse, table=ends.target.name, within=within)
