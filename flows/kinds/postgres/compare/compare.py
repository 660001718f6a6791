"""Both ends of a table compared by content, without moving the table; and what differs read again, when asked to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from flows.access.addresses import connect
from flows.declare import Append, Overwrite
from flows.kinds.postgres import Database, Table
from flows.kinds.postgres.compare import source_rows as extract_buckets
from flows.kinds.postgres.compare.both_ends import Ends, snapshots
from flows.kinds.postgres.compare.narrow import Difference, differences, narrow
from flows.kinds.postgres.compare.repair import repair_keys
from flows.kinds.postgres.table import count
from flows.publish import raw_rows as load_buckets
from flows.quality import open_rows
from flows.quality.open_rows import document_within, open_digests
from flows.state import ledger, reconciliations
from flows.state.reconciliations import Reconciliation
from flows.values.checksum import Key
from flows.values.connection import DatabaseConnection
from flows.values.identifiers import quote_identifier, quote_literal

if TYPE_CHECKING:
    from asyncpg import Record

# Keys looked up at one time, to tell what waits and what stands in quarantine from what differs.
_KEYS_LOOKED_UP = 2_000
# Keys kept for a repair: with more of them, it goes in rounds. 50,000 keys are some 10 MB.
_KEYS_KEPT = 50_000
# Keys of one repairing load: one transaction, and one array in its queries.
_KEYS_REPAIRED = 5_000
_KEYS_SHOWN = 10

_KINDS = ("missing", "surplus", "different", "quarantined", "waiting")


@dataclass(slots=True)
class _Found:
    """Keys by what became of them; those to repair, up to a bound, and a few of each kind to show."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_KINDS, 0))
    to_repair: list[Key] = field(default_factory=list)
    shown: dict[str, list[list[str | None]]] = field(default_factory=dict)

    def add(self, kind: str, key: Key) -> None:
        self.counts[kind] += 1
        if kind in ("quarantined", "waiting"):
            return
        if len(self.to_repair) < _KEYS_KEPT and None not in key:
            self.to_repair.append(key)
        if len(examples := self.shown.setdefault(kind, [])) < _KEYS_SHOWN:
            examples.append(list(key))


async def reconcile_table(
    warehouse_address: DatabaseConnection,
    origin_address: DatabaseConnection,
    source: Database,
    table: Table,
    *,
    run_id: int | None = None,
    repair: bool = False,
) -> Reconciliation:
    """Compare every live row of raw with the source's, by content; the result is recorded in ops.reconciliations.

    With `repair`, the keys that differ are read again until both ends agree or a round no longer helps; each
    comparison is recorded, and the last is returned. A table without a key is compared as a whole, and not repaired.

    Raises:
        MedallionError: see `flows.values.errors`; repairs that were published before stay.
    """
    repaired, before = 0, 0
    while True:
        result, keys = await _compare(warehouse_address, origin_address, source, table)
        result = replace(result, repaired=repaired)
        async with connect(warehouse_address, side="warehouse") as warehouse:
            await ledger.ensure_schema(warehouse)
            await reconciliations.record(warehouse, run_id, result)
        if not repair or not keys or (repaired and result.differences >= before):
            return result
        before = result.differences
        for first in range(0, len(keys), _KEYS_REPAIRED):
            chunk = keys[first : first + _KEYS_REPAIRED]
            await repair_keys(
                warehouse_address,
                origin_address,
                source,
                table,
                chunk,
                source_rows=result.source_rows or 0,
                run_id=run_id,
            )
            repaired += len(chunk)


async def _compare(
    warehouse_address: DatabaseConnection, origin_address: DatabaseConnection, source: Database, table: Table
) -> tuple[Reconciliation, list[Key]]:
    started = time.monotonic()
    result, keys = Reconciliation(source.name, table.name, "content", "not loaded yet"), list[Key]()
    async with snapshots(warehouse_address, origin_address, source, table) as ends:
        if ends is not None:
            result, keys = await (_compare_by_key if table.keys else _compare_whole)(ends, table, result)
            if ends.not_compared:
                note = f"not in raw, or of another type there, and not compared: {', '.join(ends.not_compared)}"
                result = replace(result, note="; ".join(part for part in (result.note, note) if part))
    return replace(result, seconds=time.monotonic() - started), keys


async def _compare_by_key(ends: Ends, table: Table, result: Reconciliation) -> tuple[Reconciliation, list[Key]]:
    source = extract_buckets.row_set(table, ends.shape, portable=ends.portable)
    raw = load_buckets.row_set(ends.target, ends.shape, table.keys, portable=ends.portable)
    drill = await narrow(ends.origin, source, ends.warehouse, raw, ends.shape.estimated_rows)
    found = _Found()
    in_quarantine = await _count_open(ends) > 0
    batch: list[Difference] = []
    async for difference in differences(ends.origin, source, ends.warehouse, raw, drill):
        if difference.kind == "surplus":
            found.add("surplus", difference.key)
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
        surplus=found.counts["surplus"],
        different=found.counts["different"],
        quarantined=found.counts["quarantined"],
        waiting=found.counts["waiting"],
        keys=found.shown,
    )
    note = None
    if result.differences and table.cursor is None and not isinstance(table.load, Overwrite):
        note = "without a cursor, what changed since the last load counts as a difference"
    return replace(result, verdict="different" if result.differences else "equal", note=note), found.to_repair


async def _tell_apart(ends: Ends, table: Table, batch: list[Difference], found: _Found, in_quarantine: bool) -> None:
    """Rows of the source that raw lacks or holds otherwise: rightly so, not yet, or a difference."""
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
        names = {"source": ends.target.source, "table": ends.target.table}
        known = await open_digests(ends.warehouse, digests, **names)
    for difference in batch:
        rest = [row for row in versions.get(difference.key, []) if not row.digests & known]
        # An append leaves alone what is there: the next load brings only what is missing.
        next_load_helps = difference.kind == "missing" or not isinstance(table.load, Append)
        kind = difference.kind
        if not rest:
            kind = "quarantined"
        elif next_load_helps and all(row.waits for row in rest):
            kind = "waiting"
        found.add(kind, difference.key)


async def _compare_whole(ends: Ends, table: Table, result: Reconciliation) -> tuple[Reconciliation, list[Key]]:
    """Without a key: counts, and one checksum over everything that no load to come will touch."""
    loaded, aside, waiting, waiting_in_raw = "true", "true", 0, 0
    if isinstance(table.load, Overwrite):
        column = ends.shape.column(table.load.by)
        assert column is not None  # describe() has refused a table without it
        loaded = f"({ends.next_read}) is not true"
        aside = f"not {document_within(column.name, column.raw_type, ends.next_read)}"
        coming, held = await _sums(ends, table, ends.next_read, ends.next_read)
        waiting, waiting_in_raw = (0 if coming == held else coming["rows"]), held["rows"]
    elif table.cursor_column is not None:
        # Such rows are appended up to the cursor, and none of them twice.
        name = quote_identifier(table.cursor_column)
        loaded = f"{name} <= {quote_literal(ends.state.value)}::bigint" if ends.state.value is not None else "false"
        waiting = await count(ends.origin, table, f"({loaded}) is not true")
    at_source, in_raw = await _sums(ends, table, loaded, loaded if isinstance(table.load, Overwrite) else "true")
    quarantined = await _count_open(ends, aside)
    lacking = at_source["rows"] - in_raw["rows"] - quarantined
    note = "without a key rows cannot be told apart"
    equal = lacking == 0
    if quarantined:
        note = "without a key and with rows in quarantine, only counts are compared"
    else:
        equal = equal and at_source["mark"] == in_raw["mark"]
    result = replace(
        result,
        method="content without key",
        verdict="equal" if equal else "different",
        source_rows=await count(ends.origin, table),
        raw_rows=in_raw["rows"] + waiting_in_raw,
        buckets=1,
        missing=max(0, lacking),
        surplus=max(0, -lacking),
        quarantined=quarantined,
        waiting=waiting,
        note=note,
    )
    return result, []


async def _sums(ends: Ends, table: Table, at_source: str, in_raw: str) -> tuple[Record, Record]:
    """Rows and checksum of what the conditions select at each end."""
    source = extract_buckets.row_set(table, ends.shape, at_source, portable=ends.portable)
    raw = load_buckets.row_set(ends.target, ends.shape, (), portable=ends.portable)
    raw = replace(raw, condition=f"{raw.condition} and ({in_raw})")
    sums = await ends.origin.fetchrow(source.whole()), await ends.warehouse.fetchrow(raw.whole())
    assert sums[0] is not None  # an aggregate always answers one row
    assert sums[1] is not None
    return sums[0], sums[1]


async def _count_open(ends: Ends, within: str = "true") -> int:
    names = {"source": ends.target.source, "table": ends.target.table}
    return await open_rows.count_open(ends.warehouse, **names, within=within)
