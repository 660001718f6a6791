"""JSON records staged in full: what every kind of source does that yields records and not rows.

Raw has the key's fields and the cursor's in columns of their own, and each record as `payload`, unmodified.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.declare.table import OnDrift
from flows.landing import records as payloads
from flows.landing.readable import readable
from flows.landing.record_rows import Place
from flows.landing.records import Records
from flows.landing.table import SchemaChange, Stamp, create_landing, ensure_types, raw_columns, stamp_landing
from flows.publish.evolution import changes_since
from flows.publish.run import LoadRun
from flows.quality.quarantine import Unreadable
from flows.values.identifiers import quote_literal
from flows.values.shape import Column, Shape


@dataclass(frozen=True, slots=True)
class StagedRecords:
    """What came into the landing table: its columns, records and their bytes, and those that jsonb cannot hold."""

    shape: Shape
    rows: int
    received: int
    unreadable: tuple[Unreadable, ...]
    changes: tuple[SchemaChange, ...]


@dataclass(frozen=True, slots=True)
class RecordTable:
    """What is known of a table of records once its source was asked.

    `keys`: the key's fields. `deleted`: the field by which a record says that it is deleted. `on_drift`: what a change
    of its columns does.
    """

    keys: tuple[str, ...]
    deleted: str | None = None
    on_drift: OnDrift = "evolve"


def records_shape(keys: Mapping[str, str], cursor: tuple[str, str] | None = None) -> Shape:
    """Raw's columns for records: the key's fields by their types, the cursor's (name, type), and the payload."""
    columns = [Column(name, kind, _text_of(name), nullable=False) for name, kind in keys.items()]
    if cursor is not None and cursor[0] not in keys:
        columns.append(Column(*cursor, _text_of(cursor[0])))
    return Shape((*columns, Column("payload", "jsonb", "payload", nullable=False)))


def _text_of(name: str) -> str:
    """SQL for a field's text in a landed record."""
    return f"payload ->> {quote_literal(name)}"


async def stage_records(
    run: LoadRun[Any, Any],
    shape: Shape,
    batches: AsyncGenerator[Sequence[bytes], None],
    extracted_at: str,
    *,
    first: bool,
    table: RecordTable | None = None,
) -> StagedRecords:
    """Stage batches of records, each record JSON in UTF-8. Memory holds a batch.

    `first`: the landing table will become the raw table. `table` says what the declaration does not (None: nothing).
    An error while a batch is awaited is the source's.
    """
    session, target, warehouse = run.session, run.target, run.warehouse
    unreadable: list[Unreadable] = []
    received = 0
    known = table or RecordTable(run.table.keys)
    fields = [(key,) for key in known.keys]
    stamp = Stamp(extracted_at, session.batch_id)

    async def pages() -> AsyncGenerator[Records, None]:
        nonlocal received
        async with contextlib.aclosing(batches), contextlib.aclosing(session.each(batches)) as coming:
            async for records in coming:
                received += sum(map(len, records))
                yield Records(readable(records, fields, unreadable, careful=True))
                if run.on_progress is not None:
                    run.on_progress("received", received)

    changes = await changes_since(warehouse, target, shape, await raw_columns(warehouse, target), known.on_drift)
    await ensure_types(warehouse, target, shape)
    await create_landing(warehouse, target, shape, first=first, bare=True)
    session.pass_failpoint("after_landing_created")
    places = [Place(column.name, column.raw_type, (column.name,)) for column in shape.columns[:-1]]
    gone = "false"
    if known.deleted is not None:
        gone = f"coalesce(payload -> {quote_literal(known.deleted)}, 'null') not in ('null', 'false')"
    async with contextlib.aclosing(pages()) as landing:
        landed = await payloads.land(warehouse, target, shape, places, landing, stamp, gone)
    await stamp_landing(warehouse, target, stamp)
    session.rows_read = landed + len(unreadable)
    return StagedRecords(shape, session.rows_read, received, tuple(unreadable), tuple(changes))
