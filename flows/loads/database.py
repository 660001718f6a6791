"""One load of one database table: lock, plan, stage, check, publish."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.connections import connect
from flows.extract.postgres import CopyStream, describe, has_value_outside, key_set, select_keys, select_rows
from flows.extract.window import window as read_window
from flows.load import landing
from flows.load.table import LANDING_SCHEMA, SchemaChange, Target, create_landing, ensure_types, raw_columns
from flows.loads.evolution import changes_since, returned
from flows.loads.publishing import Staged, check_and_publish
from flows.loads.session import LoadResult, LoadSession, load_session
from flows.spec import Database, DatabaseConnection, Merge, Table
from flows.spec.errors import SourceError
from flows.spec.identifiers import qualified
from flows.spec.plan import CursorState, KeySet, LoadPlan, Window
from flows.state import ledger

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Progress = Callable[[str, int], None]
"""Called with what is going on and the bytes so far."""


def mode_of(table: Table) -> str:
    """`merge`, `append` or `replace`."""
    return type(table.load).__name__.lower()


async def plan_table(
    warehouse: Connection[Record], origin: Connection[Record], source: Database, table: Table
) -> tuple[LoadPlan, Window, list[SchemaChange]]:
    """What a load of the table would do now. Reads both ends and touches neither."""
    target = Target(source.name, table.name, source.raw_schema)
    raw = await raw_columns(warehouse, target)
    state = CursorState()
    verdict: tuple[str | None, str | None] = (None, None)
    if raw is not None:
        state = await ledger.read_cursor(warehouse, source.name, table.name)
        verdict = await ledger.last_verdict(warehouse, source.name, table.name)
    shape = await describe(origin, source.name, source.raw_schema, table)
    window = await read_window(origin, table, shape, state)
    changes = await changes_since(warehouse, target, shape, raw)
    path, reason = (
        mode_of(table),
        f"{mode_of(table)} what changed" if table.cursor else "the whole table, written where it differs",
    )
    if raw is None:
        path, reason = "first", "first load: one COPY becomes the raw table"
    elif window.lower is not None:
        added = [change.column for change in changes if change.change == "added"]
        back = returned(changes)
        if back or (added and await has_value_outside(origin, table, added, window.condition)):
            columns, kept = ", ".join(added + back), "old values" if back else "null"
            if table.keys:
                path, reason = "reread", f"rows the cursor would pass over may differ in new column {columns}"
            else:
                # Without a key a row read again would stand there twice.
                window = replace(window, warning=f"rows in raw keep {kept} in new column {columns}: they have no key")
        elif verdict[0] == "missing in raw" and verdict[1] != "reread" and table.keys:
            path, reason = "reread", "the last load found rows missing in raw"
    if path == "reread":
        window = replace(window, condition="true" if window.below == "true" else window.below)
    plan = LoadPlan(
        source=source.name,
        table=table.name,
        mode=mode_of(table),
        path=path,
        reason=reason,
        lower=window.lower,
        upper=window.upper,
        shape=shape,
        warning=window.warning,
    )
    return plan, window, changes


async def load_table(
    warehouse_address: DatabaseConnection,
    origin_address: DatabaseConnection,
    source: Database,
    table: Table,
    *,
    run_id: int | None = None,
    on_progress: Progress | None = None,
) -> LoadResult:
    """Bring raw up to date with the source's table.

    Memory does not grow with the table: rows pass as COPY's bytes, about 1 MB at a time.

    Raises:
        MedallionError: see `flows.spec.errors`; what was committed before stays, and nothing partial is left.
    """
    target = Target(source.name, table.name, source.raw_schema)
    started = time.monotonic()
    async with load_session(warehouse_address, target, mode_of(table), "planned", run_id) as session:
        session.side = "source"
        async with connect(origin_address, side="source", application=f"medallion read {target.where}") as origin:
            plan, window, changes = await plan_table(session.warehouse, origin, source, table)
            shape = plan.shape
            assert shape is not None  # plan_table always describes
            # The window was chosen before this snapshot: whatever was still open then cannot hide below its bound.
            # No rollback when something fails: after a read that was cut short asyncpg takes no more statements, and
            # the connection ends here anyway.
            await origin.transaction(isolation="repeatable_read", readonly=True).start()
            staged = await _stage(session, origin, table, plan, window, changes, on_progress)
            session.side = "warehouse"
            counts = await check_and_publish(warehouse_address, session, staged)
        return LoadResult(
            source=source.name,
            table=table.name,
            batch_id=session.batch_id,
            mode=plan.mode,
            path=plan.path,
            seconds=time.monotonic() - started,
            counts=counts,
            lower=plan.lower,
            upper=plan.upper,
            schema_changes=tuple(f"{change.column} {change.change}" for change in staged.changes),
            warning=plan.warning,
        )


async def _stage(
    session: LoadSession,
    origin: Connection[Record],
    table: Table,
    plan: LoadPlan,
    window: Window,
    changes: list[SchemaChange],
    on_progress: Progress | None,
) -> Staged:
    shape, target, warehouse = plan.shape, session.target, session.warehouse
    assert shape is not None  # plan_table always describes
    extracted_at = datetime.now(UTC).isoformat()
    source_keys: KeySet = await key_set(origin, table, shape, window.below)
    session.side = "warehouse"
    await ledger.note_path(warehouse, session.batch_id, plan.path)
    changes = changes + await ensure_types(warehouse, target, shape)
    await create_landing(warehouse, target, shape, first=plan.path == "first")
    session.pass_failpoint("after_landing_created")
    stream = CopyStream(
        origin, select_rows(table, shape, window.condition, (extracted_at, target.source, session.batch_id))
    )
    # Closed at once when the copy fails or is cancelled: while its reader is at work, `origin` can do nothing else.
    async with contextlib.aclosing(_watched(stream, session, on_progress)) as chunks:
        landed = await landing.copy_rows(warehouse, target, shape, chunks)
    session.rows_read = stream.rows
    if landed != stream.rows:
        raise SourceError(
            f"the source sent {stream.rows} rows and {landed} landed",
            where=target.where,
            next_move="run again; if it repeats, look for a proxy between source and warehouse",
            retryable=True,
        )
    session.pass_failpoint("after_copy")

    async def stage_keys() -> str:
        session.side = "source"
        async with contextlib.aclosing(aiter(CopyStream(origin, select_keys(table, shape)))) as keys:
            await landing.copy_keys(warehouse, target, shape, table.keys, keys)
        session.side = "warehouse"
        return qualified(LANDING_SCHEMA, landing.keys_table(target))

    return Staged(
        # An append leaves rows alone that are there, which is what a reread is to mend.
        load=Merge() if plan.path == "reread" else table.load,
        shape=shape,
        keys=table.keys,
        window=window,
        first=plan.path == "first",
        rows_read=stream.rows,
        received_bytes=stream.bytes,
        extracted_at=extracted_at,
        cursor=table.cursor.column if table.cursor else None,
        rules=table.rules,
        max_quarantined=table.max_quarantined,
        max_deleted=table.max_deleted,
        changes=tuple(changes),
        source_keys=source_keys,
        stage_keys=stage_keys if table.deletes else None,
    )


async def _watched(
    stream: CopyStream, session: LoadSession, on_progress: Progress | None
) -> AsyncGenerator[bytes, None]:
    """The stream's chunks, with progress, and with the blame on the side that fails."""
    session.side = "source"
    async with contextlib.aclosing(aiter(stream)) as chunks:
        async for chunk in chunks:
            session.side = "warehouse"
            yield chunk
            session.side = "source"
            if on_progress is not None:
                on_progress("copied", stream.bytes)
    session.side = "warehouse"
