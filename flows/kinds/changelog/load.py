"""One load of a captured table: copied in a snapshot, compared in one, or brought up to date by its changes."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.access.sessions import pinned
from flows.declare import Merge
from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.changelog import inbox, net, position
from flows.kinds.changelog.capture import Capture, captured
from flows.kinds.changelog.changes import Changes, Wanted
from flows.kinds.changelog.comparing import publish_differences
from flows.kinds.changelog.inbox import log_locked
from flows.kinds.changelog.plan import CapturePlan, as_copied
from flows.kinds.changelog.slot import Exporter, ensure_slot, exporting
from flows.kinds.postgres.compare import source_rows
from flows.kinds.postgres.reading import settled
from flows.kinds.postgres.stage import carry_out
from flows.kinds.postgres.table import describe
from flows.landing.drift import fit_to_raw
from flows.landing.table import Stamp, Target, ensure_types
from flows.publish.evolution import described_changes, record_held
from flows.publish.identity import joined
from flows.publish.run import Loaded, LoadRun
from flows.publish.staged import Staged
from flows.state import change_counts
from flows.values.checksum import Key
from flows.values.errors import SourceUnavailable
from flows.values.plan import KeySet, LoadCounts, Window

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
    """The other tables whose changes this run needs; none for a load outside a run."""
    if run.session.run_id is None:
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
    session, shape, table, batch = run.session, planned.shape, run.table, planned.batch
    await _refuse_changed(run, planned)
    run.spending.admit(changes.rows, changes.bytes)
    before = position.keys_of(planned.stored) or await _keys_before(run, planned)
    labels = await ensure_types(session.warehouse, run.target, shape)
    await record_held(session, batch.held)
    stamp = Stamp(datetime.now(UTC).isoformat(), session.batch_id)
    staging = net.Net(session.warehouse, run.target, shape, table.keys, changes)
    rows = await staging.land(stamp, functools.partial(_read_again, run, planned))
    after = await staging.source_keys(before) if before is not None else None
    session.rows_read = rows
    session.pass_failpoint("after_landing_created")
    fitted, drift = await fit_to_raw(session.warehouse, run.target, shape, batch.held)
    at = position.at(changes.ends, planned.identity, planned.origin, after)
    all_changes = (*batch.changes, *labels)
    counts = await run.publish(
        Staged(
            load=Merge(),
            shape=fitted,
            keys=table.keys,
            window=Window(lower=planned.stored.value, upper=at.value, next=at),
            first=False,
            rows_read=rows,
            received_bytes=changes.bytes,
            extracted_at=stamp.extracted_at,
            rules=(*drift, *table.rules),
            tolerance=table.tolerance,
            changes=all_changes,
            source_keys=after,
            gone=staging.gone,
            on_duplicate=table.on_duplicate,
        ),
        functools.partial(_note, changes, run.target),
    )
    plan = replace(planned.plan, upper=at.value)
    return Loaded(plan, counts, described_changes(all_changes, batch.held))


async def _note(changes: Changes, target: Target, warehouse: Connection[Record], batch_id: int) -> None:
    """In the publishing transaction: what the source did, and the end of the table of changes."""
    counts = changes.counts
    found = change_counts.Totals(
        inserts=counts.get("I", 0),
        updates=counts.get("U", 0) + counts.get("V", 0),
        deletes=counts.get("D", 0),
        truncates=counts.get("T", 0),
        key_changes=counts.get("k", 0),
        committed_at=changes.committed_at,
    )
    await change_counts.note(warehouse, batch_id, found, position.text(changes.begins), position.text(changes.ends))
    await warehouse.execute(f"drop table {changes.relation}, {net.gone_table(target)}")


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


_LAST = """
select reconciliation from ops.loads
where source_system = $1 and table_name = $2 and status = 'published' order by batch_id desc limit 1
"""


async def _keys_before(run: LoadRun[Database, Table], planned: CapturePlan) -> KeySet | None:
    """The source's keys at the stored position: those of raw and quarantine, if the last load found them equal."""
    if await run.warehouse.fetchval(_LAST, run.source.name, run.table.name) != "match":
        return None
    return await net.held(run.warehouse, run.target, run.table.keys, planned.shape)


async def _read_again(
    run: LoadRun[Database, Table], planned: CapturePlan, keys: Sequence[Key], column: str
) -> Mapping[Key, str | None]:
    """A column's values at the source now, by the key's text. Later changes are still in the log."""
    table, shape = as_copied(run.table), planned.shape
    found = shape.column(column)
    assert found is not None  # only columns of the shape are asked for
    texts = ", ".join(f"({one.select})::text" for name in table.keys if (one := shape.column(name)))
    pins = pinned(run.origin, f"medallion read {run.target.where}")
    with run.session.reading():
        await run.origin.execute(f"begin isolation level repeatable read read only; {pins}")
        records = await run.origin.fetch(
            f"select array[{texts}] as key, ({found.select})::text as value from {table.relation} "
            f"where {source_rows.among(table, shape, keys)}"
        )
        await run.origin.execute("commit")
    return {tuple(record["key"]): record["value"] for record in records}
