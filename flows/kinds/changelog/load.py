"""One load of a captured table: copied in a snapshot, compared in one, or brought up to date by its changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.changelog import inbox, position
from flows.kinds.changelog.applying import apply_changes, keys_before
from flows.kinds.changelog.capture import Capture, captured
from flows.kinds.changelog.changes import Changes, Wanted
from flows.kinds.changelog.comparing import publish_differences
from flows.kinds.changelog.inbox import log_locked
from flows.kinds.changelog.plan import CapturePlan, as_copied
from flows.kinds.changelog.slot import Exporter, ensure_slot, exporting
from flows.kinds.postgres.reading import settled
from flows.kinds.postgres.stage import carry_out
from flows.kinds.postgres.table import describe
from flows.landing.table import Target, ensure_types
from flows.publish.evolution import described_changes, record_held
from flows.publish.identity import joined
from flows.publish.run import Loaded, LoadRun
from flows.publish.staged import Staged
from flows.state import table_locks
from flows.values.errors import SourceUnavailable
from flows.values.plan import LoadCounts

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Note = Callable[["Connection[Record]", int], Awaitable[None]]


async def load_captured(run: LoadRun[Database, Table], planned: CapturePlan) -> Loaded:
    """Carry out the plan. A slot that was lost since, or that is made here, leads to a comparison."""
    if planned.how == "changes":
        async with log_locked(run.warehouse, run.source, run.target.where):
            capture, note = await _ready(run)
            changes = await _changes(run, planned, capture)
        rewritten = changes is not None and planned.rewritten and not changes.counts.get("T")
        if changes is not None and not rewritten:
            return await _publish_changes(run, planned, changes)
        if changes is not None:
            await run.warehouse.execute(f"drop table {changes.relation}")
        how, reason = "compare", planned.rewritten or "the slot begins behind the stored position"
        if planned.batch.changes:
            how, reason = "copy", f"{reason}, and columns have changed"
        planned = replace(planned, how=how, plan=replace(planned.plan, strategy="reload", reason=reason))  # type: ignore[arg-type]
    else:
        async with log_locked(run.warehouse, run.source, run.target.where):
            capture, note = await _ready(run)
            # From here on the slot does not advance, whatever other tables commit.
            await position.hold(run.warehouse, run.source.name, run.table.name, run.session.batch_id)
    if note:
        planned = replace(planned, plan=replace(planned.plan, warning=joined(planned.plan.warning, note)))
    if planned.how == "compare":
        async with exporting(run.source_address, run.target.where) as exporter:
            if (loaded := await publish_differences(run, planned, exporter)) is not None:
                return loaded
        reason = f"{planned.plan.reason}; too many do, so all are read"
        planned = replace(planned, plan=replace(planned.plan, reason=reason))
    async with exporting(run.source_address, run.target.where) as exporter:
        return await _copy(run, planned, exporter)


async def _ready(run: LoadRun[Database, Table]) -> tuple[Capture, str | None]:
    with run.session.reading():
        return await ensure_slot(run.origin, run.source, run.target.where)


# -- a snapshot


async def _copy(run: LoadRun[Database, Table], planned: CapturePlan, exporter: Exporter) -> Loaded:
    """The table in full, in the exported snapshot: what follows it is in the log."""

    class Copying(LoadRun[Database, Table]):
        """The run, with the position that the snapshot turned out to have."""

        async def publish(self, part: Staged, note: Note | None = None) -> LoadCounts:
            at = position.at(exporter.position, planned.identity, planned.origin)
            window = replace(part.window, next=at, upper=at.value)
            return await run.publish(replace(part, window=window), note)

    copying = Copying(
        **{name: getattr(run, name) for name in LoadRun.__dataclass_fields__ if name != "table"},
        table=as_copied(run.table),
    )
    batch = replace(planned.batch, plan=planned.plan, snapshot=exporter.snapshot)
    return await carry_out(copying, batch)


# -- changes


async def _changes(run: LoadRun[Database, Table], planned: CapturePlan, capture: Capture) -> Changes | None:
    """The table's changes since its position; None if the slot no longer has them. The log must be locked."""
    assert planned.position is not None  # of a plan by changes
    if capture.confirmed is None or capture.confirmed > planned.position:
        await position.hold(run.warehouse, run.source.name, run.table.name, run.session.batch_id)
        return None
    wanted = Wanted(run.target, planned.captured.id, planned.position)
    found = await inbox.claim(run, wanted)
    return found or await inbox.read(run, capture, wanted, await _others(run, capture))


_OTHERS = """
select c.table_name, c.cursor_value, (c.identity -> 'table' ->> 'id')::bigint as oid
from ops.cursors as c
where c.source_system = $1 and c.table_name <> $2 and c.cursor_value is not null and c.identity -> 'log' ->> 'slot' = $3
    and c.identity -> 'table' ->> 'id' is not null
"""


async def _others(run: LoadRun[Database, Table], capture: Capture) -> list[Wanted]:
    """The other tables whose changes this run needs; none for a load outside a run, or if others follow the log."""
    if run.session.run_id is None or await table_locks.is_locked(run.warehouse, run.source.name, table_locks.FOLLOWED):
        return []
    declared = {table.name for table in run.source.tables}
    others = []
    for row in await run.warehouse.fetch(_OTHERS, run.source.name, run.table.name, capture.names.slot):
        at = position.number(row["cursor_value"])
        if row["table_name"] in declared and capture.confirmed is not None and at >= capture.confirmed:
            target = Target(run.source.name, row["table_name"], run.source.raw_schema)
            others.append(Wanted(target, row["oid"], at))
    return others


async def _publish_changes(run: LoadRun[Database, Table], planned: CapturePlan, changes: Changes) -> Loaded:
    batch = planned.batch
    await _refuse_changed(run, planned)
    run.spending.admit(changes.rows, changes.bytes)
    keys = await keys_before(run, planned)
    labels = await ensure_types(run.warehouse, run.target, planned.shape)
    await record_held(run.session, batch.held)
    all_changes = (*batch.changes, *labels)
    applied = await apply_changes(run, planned, changes, keys, all_changes)
    plan = replace(planned.plan, upper=applied.state.value)
    return Loaded(plan, applied.counts, described_changes(all_changes, batch.held))


async def _refuse_changed(run: LoadRun[Database, Table], planned: CapturePlan) -> None:
    """After the log was read: what it has of the table is still what was planned.

    Raises:
        SourceUnavailable: columns changed between the plan and the end of the log, so that values of a new one would be
            lost; or the publication did, so that changes are missing.
        SourceError: changes of the table no longer arrive.
    """
    table, where = as_copied(run.table), run.target.where
    with run.session.reading():
        async with settled(run.origin, run.source, table):
            shape = await describe(run.origin, run.source.name, run.source.raw_schema, table)
            of_log = await captured(run.origin, planned.capture, table, shape, where)
    changed = "columns of the table" if shape.columns != planned.shape.columns else ""
    if of_log.publication != planned.captured.publication:
        changed = f"publication {planned.capture.names.publication}"
    if changed:
        raise SourceUnavailable(
            f"{changed} changed while the load began",
            where=where,
            fix="the load is retried automatically, and planned again; nothing was published",
            retryable=True,
        )
