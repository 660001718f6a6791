"""Changes of a table between two positions, applied: staged, checked, and published with the position."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.access.sessions import pinned
from flows.declare import Merge
from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.changelog import net, position
from flows.kinds.changelog.changes import Changes
from flows.kinds.changelog.plan import CapturePlan, as_copied
from flows.kinds.postgres.compare import source_rows
from flows.landing.drift import fit_to_raw
from flows.landing.table import SchemaChange, Stamp, Target
from flows.publish.run import LoadRun
from flows.publish.staged import Staged
from flows.state import change_counts
from flows.values.checksum import Key
from flows.values.plan import CursorState, KeySet, LoadCounts, Window

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class Applied:
    """What was committed: the counts of this commit, the state that is stored with it, and the source's keys there."""

    counts: LoadCounts
    state: CursorState
    keys: KeySet | None


async def apply_changes(
    run: LoadRun[Database, Table],
    planned: CapturePlan,
    changes: Changes,
    keys: KeySet | None,
    schema_changes: Sequence[SchemaChange] = (),
    earlier: LoadCounts | None = None,
) -> Applied:
    """Publish the changes in one transaction with their position. `keys`: those of the source before them, if known.

    `earlier`: what commits of the same batch have counted before, while a log is followed; both ends are then not
    compared with each commit.
    """
    session, shape, table = run.session, planned.shape, run.table
    stamp = Stamp(datetime.now(UTC).isoformat(), session.batch_id)
    staging = net.Net(session.warehouse, run.target, shape, table.keys, changes)
    rows = await staging.land(stamp, functools.partial(_read_again, run, planned))
    after = await staging.source_keys(keys) if keys is not None else None
    session.rows_read = rows
    session.pass_failpoint("after_landing_created")
    fitted, drift = await fit_to_raw(session.warehouse, run.target, shape, planned.batch.held)
    at = position.at(changes.ends, planned.identity, planned.origin, after)
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
            changes=tuple(schema_changes),
            source_keys=after,
            gone=staging.gone,
            on_duplicate=table.on_duplicate,
            more_follow=earlier is not None,
            before=earlier,
        ),
        functools.partial(_note, changes, run.target),
    )
    return Applied(counts, at, after)


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


_LAST = """
select reconciliation from ops.loads
where source_system = $1 and table_name = $2 and status = 'published' order by batch_id desc limit 1
"""


async def keys_before(run: LoadRun[Database, Table], planned: CapturePlan) -> KeySet | None:
    """The source's keys at the stored position: those stored with it, or those of raw and quarantine, if the last load
    found them equal."""
    if (stored := position.keys_of(planned.stored)) is not None:
        return stored
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
