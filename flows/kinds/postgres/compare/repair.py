"""A load of given keys only: reload, check, merge; keys deleted at the source are marked in raw.

It moves no cursor, adds no column, and changes no other row.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from flows.access.addresses import connect
from flows.declare import Merge, Overwrite, Replace
from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.postgres.compare import source_rows as extract_buckets
from flows.kinds.postgres.queries import refuse_unlocked
from flows.kinds.postgres.reading import start_reading
from flows.kinds.postgres.rows import land
from flows.kinds.postgres.table import CopyStream, select_rows
from flows.landing.drift import fit_to_raw
from flows.landing.table import SchemaChange, Stamp, Target, ensure_types, raw_columns
from flows.publish import raw_rows as load_buckets
from flows.publish.evolution import beside_scheduled_loads
from flows.publish.identity import refuse_other_masks
from flows.publish.publish import check_and_publish
from flows.publish.session import LoadResult, LoadSession, load_session
from flows.publish.staged import Held, Staged
from flows.quality.open_rows import count_open_keys
from flows.state import ledger
from flows.values.checksum import Key
from flows.values.connection import DatabaseConnection
from flows.values.plan import CursorState, KeySet, LoadPlan, Window
from flows.values.shape import Shape

STRATEGY = "repair"


async def repair_keys(
    warehouse_address: DatabaseConnection,
    origin_address: DatabaseConnection,
    source: Database,
    table: Table,
    keys: Sequence[Key],
    *,
    source_rows: int,
    run_id: int | None = None,
) -> LoadResult:
    """Bring raw's rows of these keys up to date, under the table's lock; the ledger has it as strategy `repair`.

    `source_rows` is the approximate number of rows at the source: the tolerated share of quarantine refers to it.

    Raises:
        MedallionError: see `flows.values.errors`; nothing partial is left.
    """
    target = Target(source.name, table.name, source.raw_schema)
    plan = LoadPlan(source.name, table.name, STRATEGY, "repair of differing keys")
    async with load_session(warehouse_address, target, STRATEGY, run_id) as session:
        state = await ledger.read_cursor(session.warehouse, source.name, table.name)
        known = await raw_columns(session.warehouse, target) or {}
        refuse_other_masks(state, known, table, target.where)
        async with contextlib.AsyncExitStack() as opened:
            with session.reading():
                origin = await opened.enter_async_context(
                    connect(origin_address, side="source", application=f"medallion read {target.where}")
                )
                shape = await start_reading(origin, origin_address, source, table)
                shape, held = beside_scheduled_loads(shape, known, table, target.where)
                found = await extract_buckets.versions(origin, table, shape, keys, "false")
            stream = CopyStream(origin, select_rows(table, shape, extract_buckets.among(table, shape, keys)))
            staged = await _stage(session, table, shape, held, stream, state)
            with session.reading():
                await refuse_unlocked(origin, table, target.where)
        gone = [key for key in keys if key not in found]
        counts = await check_and_publish(
            warehouse_address,
            session,
            replace(
                staged,
                tolerance=replace(
                    table.tolerance,
                    max_quarantined=min(1.0, table.max_quarantined * max(1.0, source_rows / max(1, stream.rows))),
                ),
                source_keys=KeySet(len(found)),
                settle=lambda: _settle(session, table, shape, list(found), gone, staged.extracted_at),
            ),
        )
        return session.result(plan, counts, table)


async def _stage(
    session: LoadSession,
    table: Table,
    shape: Shape,
    held: list[SchemaChange],
    stream: CopyStream,
    state: CursorState,
) -> Staged:
    target, warehouse = session.target, session.warehouse
    labels = await ensure_types(warehouse, target, shape)
    extracted_at = datetime.now(UTC).isoformat()
    await land(session, shape, stream, extracted_at)
    session.pass_failpoint("after_copy")
    shape, drift = await fit_to_raw(warehouse, target, shape, held)
    return Staged(
        load=Merge(),  # an append skips existing rows, and a replace would delete all others
        shape=shape,
        keys=table.keys,
        window=Window(next=state),
        moves_cursor=False,
        first=False,
        rows_read=stream.rows,
        received_bytes=stream.bytes,
        extracted_at=extracted_at,
        cursor=table.cursor_column,
        rules=(*drift, *table.rules),
        changes=tuple(labels),
        on_duplicate=table.on_duplicate,
    )


async def _settle(
    session: LoadSession, table: Table, shape: Shape, found: list[Key], gone: list[Key], moment: str
) -> tuple[Held, int]:
    """Mark deleted keys; then count the existing ones in raw and quarantine."""
    warehouse, target = session.warehouse, session.target
    # 1.0 and 1.00 are one key: raw's row has just got the other text.
    there = load_buckets.among(shape, table.keys, found)
    ended = f"{load_buckets.among(shape, table.keys, gone)} and not {there}"
    if isinstance(table.load, Replace | Overwrite):
        deleted = await load_buckets.drop_gone(warehouse, target, ended)
    else:
        deleted = await load_buckets.mark_gone(warehouse, target, ended, Stamp(moment, session.batch_id))
    kinds = {name: column.raw_type for name in table.keys if (column := shape.column(name))}
    live = await load_buckets.count_live(warehouse, target, there)
    aside = await count_open_keys(warehouse, target.raw, kinds, found, table=target.name)
    return Held(KeySet(live), KeySet(aside)), deleted
