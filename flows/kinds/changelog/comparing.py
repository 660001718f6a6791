"""A captured table whose changes are lost: only what differs is read, in a snapshot at a position."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg

from flows.declare import Merge
from flows.declare.database import Database
from flows.declare.rule import Tolerance
from flows.declare.table import Table
from flows.failures.diagnose import CONNECTION_LOST
from flows.kinds.changelog import difference, net, position
from flows.kinds.changelog.plan import CapturePlan, as_copied
from flows.kinds.changelog.slot import Exporter
from flows.kinds.postgres.compare import source_rows
from flows.kinds.postgres.reading import join_reading, stop_reading
from flows.kinds.postgres.rows import watched
from flows.kinds.postgres.table import CopyStream, select_rows
from flows.landing import copy
from flows.landing.drift import fit_to_raw
from flows.landing.table import Stamp, Target, create_landing, ensure_types, stamp_landing
from flows.publish.evolution import described_changes, record_held
from flows.publish.run import Loaded, LoadRun
from flows.publish.staged import Staged
from flows.values.checksum import Key, key_among
from flows.values.identifiers import quote_identifier
from flows.values.plan import KeySet, Window
from flows.values.shape import column_list

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Keys in one query for rows of a comparison.
_KEYS_READ = 10_000


async def publish_differences(run: LoadRun[Database, Table], planned: CapturePlan, exporter: Exporter) -> Loaded | None:
    """Compare both ends, read what differs and publish it; None if it is too much to be worth it."""
    session, shape, table = run.session, planned.shape, as_copied(run.table)
    with session.reading():
        await join_reading(run.origin, run.source, table, exporter.snapshot, shape)
        async with session.warehouse.transaction(isolation="repeatable_read", readonly=True):
            found = await difference.find(run.origin, session.warehouse, run.target, table, shape)
        if found is None:
            await stop_reading(run.origin)
    if found is None:
        return None
    labels = await ensure_types(session.warehouse, run.target, shape)
    await record_held(session, planned.batch.held)
    stamp = Stamp(datetime.now(UTC).isoformat(), session.batch_id)
    rows, received = await _land_differences(run, planned, found, stamp)
    with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, *CONNECTION_LOST):
        await stop_reading(run.origin)
    fitted, drift = await fit_to_raw(session.warehouse, run.target, shape, planned.batch.held)
    at = position.at(exporter.position, planned.identity, planned.origin)
    counts = await run.publish(
        Staged(
            load=Merge(),
            shape=fitted,
            keys=table.keys,
            window=Window(next=at, upper=at.value),
            first=False,
            rows_read=rows,
            received_bytes=received,
            extracted_at=stamp.extracted_at,
            rules=(*drift, *table.rules),
            tolerance=_tolerance(table, found.source_rows, rows),
            changes=tuple(labels),
            source_keys=KeySet(found.source_rows),
            gone=net.gone_table(run.target),
        ),
        functools.partial(net.drop_gone, run.target),
    )
    return Loaded(planned.plan, counts, described_changes(labels, planned.batch.held))


async def _land_differences(
    run: LoadRun[Database, Table], planned: CapturePlan, found: difference.Found, stamp: Stamp
) -> tuple[int, int]:
    """The differing rows, and the keys that only raw has; how many rows, and the bytes received."""
    session, shape, table, received = run.session, planned.shape, as_copied(run.table), 0
    await create_landing(session.warehouse, run.target, shape, first=False, bare=True)
    await net.create_gone(session.warehouse, run.target, shape, table.keys)
    session.pass_failpoint("after_landing_created")
    for start in range(0, len(found.read), _KEYS_READ):
        keys = found.read[start : start + _KEYS_READ]
        stream = CopyStream(run.origin, select_rows(table, shape, source_rows.among(table, shape, keys)))
        stream.before = received
        async with contextlib.aclosing(watched(stream, session, run.on_progress)) as chunks:
            await copy.copy_rows(session.warehouse, run.target, shape.names, chunks)
        received += stream.bytes
    await stamp_landing(session.warehouse, run.target, stamp)
    for start in range(0, len(found.gone), _KEYS_READ):
        await _land_gone(session.warehouse, run.target, planned, found.gone[start : start + _KEYS_READ])
    rows = await session.warehouse.fetchval(f"select count(*) from {run.target.landing}")
    session.rows_read = rows
    return rows, received


async def _land_gone(warehouse: Connection[Record], target: Target, planned: CapturePlan, keys: Sequence[Key]) -> None:
    table, shape = planned.batch.table, planned.shape
    kinds = [column.raw_type for name in table.keys if (column := shape.column(name))]
    gone = key_among([f"r.{quote_identifier(key)}" for key in table.keys], kinds, keys)
    await warehouse.execute(
        f"insert into {net.gone_table(target)} select {column_list(table.keys, 'r')} from {target.raw} as r "
        f"where {gone}"
    )


def _tolerance(table: Table, source_rows: int, rows: int) -> Tolerance:
    share = min(1.0, table.max_quarantined * max(1.0, source_rows / max(1, rows)))
    return replace(table.tolerance, max_quarantined=share)
