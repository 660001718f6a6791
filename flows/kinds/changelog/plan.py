"""The plan of one load of a captured table: a copy in a snapshot, a comparison, or the changes since its position."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from flows.declare import Merge
from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.changelog import position
from flows.kinds.changelog.capture import Capture, Captured, captured, look, refuse_unready
from flows.kinds.changelog.difference import same_columns
from flows.kinds.postgres.identity import doubt
from flows.kinds.postgres.plan import TablePlan, plan_table
from flows.landing.table import SchemaChange, Target, raw_columns
from flows.publish.evolution import no_longer_held, returned
from flows.publish.identity import refuse_other_key
from flows.state import ledger, reloads
from flows.values.errors import SourceError
from flows.values.plan import CursorState, LoadPlan, Reading
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record

How = Literal["copy", "compare", "changes"]


@dataclass(frozen=True, slots=True)
class CapturePlan:
    """A captured table's next load.

    `batch` is the plan of a copy of the table, of which the other ways take columns and their changes. `stored` is the
    state that the position comes from. `identity` is stored with the next position. `rewritten`: why rows may have
    changed without a change in the log, unless it has a truncate.
    """

    plan: LoadPlan
    how: How
    batch: TablePlan
    capture: Capture
    captured: Captured
    stored: CursorState
    position: int | None
    identity: dict[str, Any]
    rewritten: str | None = None

    @property
    def origin(self) -> dict[str, str]:
        """What changes of the table come from, as stored with its position."""
        return {"slot": self.capture.names.slot, "publication": self.captured.publication}

    @property
    def shape(self) -> Shape:
        """The source's columns."""
        assert self.batch.plan.shape is not None  # plan_table always describes
        return self.batch.plan.shape


def as_copied(table: Table) -> Table:
    """The table as a snapshot of it is read: all rows, with deletes. Its cursor is not needed."""
    return replace(table, cursor=None, load=Merge(), deletes=True)


async def plan_captured(
    warehouse: Connection[Record], origin: Connection[Record], source: Database, table: Table
) -> CapturePlan:
    """The plan of the table's load. Reads source and warehouse and changes neither. In a transaction with its lock.

    Raises:
        ConfigurationError: the source is not set up for capture.
        SourceError: changes of the table would not arrive.
    """
    target = Target(source.name, table.name, source.raw_schema)
    raw = await raw_columns(warehouse, target)
    if raw is not None:
        await refuse_other_key(warehouse, target, table.keys)
    batch = await plan_table(warehouse, origin, source, as_copied(table))
    assert batch.plan.shape is not None  # plan_table always describes
    capture = await look(origin, source)
    refuse_unready(capture, target.where)
    if batch.plan.shape.undecodable:
        raise SourceError(
            "the source's database has no encoding (SQL_ASCII), so texts in its log cannot be checked",
            where=target.where,
            fix="declare the table in a source without capture",
        )
    of_log = await captured(origin, capture, table, batch.plan.shape, target.where)
    if not batch.unique:
        raise SourceError(
            f"no unique index of the table keeps {', '.join(table.keys)} unique, so changes cannot be assigned to rows",
            where=target.where,
            fix="declare the primary key, or create a unique index on the key at the source",
        )
    state = await ledger.read_cursor(warehouse, source.name, table.name)
    identity = {name: fact for name, fact in batch.window.next.identity.items() if name != "written"}
    at = position.of(state)
    how: How = "copy"
    reason = batch.plan.reason
    if raw is not None:
        how, reason = await _since(warehouse, origin, batch, state, (capture, of_log, identity))
    # A snapshot is read as a whole: chunks of an interrupted one belong to another position.
    reading = replace(batch.plan.reading, restarts=False)
    if reading.volume == "small":
        reading = replace(reading, how="whole", by="", columns=(), readers=1)
    plan = replace(batch.plan, strategy="initial" if raw is None else "reload", reason=reason, reading=reading)
    if how == "changes":
        assert at is not None  # there are no changes without
        reason += "".join(f"; columns: {change.column} {change.change}" for change in batch.changes)
        plan = replace(
            plan, strategy="merge", reason=reason, lower=position.text(at), upper=None, reading=Reading(), cautions=()
        )
    rewritten = await _rewritten(origin, batch, state, identity) if how == "changes" else None
    return CapturePlan(plan, how, batch, capture, of_log, state, at, identity, rewritten)


async def _since(
    warehouse: Connection[Record],
    origin: Connection[Record],
    batch: TablePlan,
    state: CursorState,
    facts: tuple[Capture, Captured, dict[str, Any]],
) -> tuple[How, str]:
    """How a table that raw has is brought up to date, and why so."""
    _, of_log, _ = facts
    target = batch.target
    if (why := await reloads.reason(warehouse, target.source, target.table)) is not None:
        return "copy", why
    raw = await raw_columns(warehouse, target) or {}
    compared = "keys and hashes are compared, and differing rows are read"
    lost = await _lost(origin, batch, state, facts)
    if lost is not None:
        assert batch.plan.shape is not None  # plan_table always describes
        if not same_columns(batch.plan.shape, raw):
            return "copy", f"{lost}; columns have changed, so all rows are read again"
        return "compare", f"{lost}: {compared}"
    if new := _unseen(batch.changes, state, of_log):
        return "copy", f"rows that did not change may have values in {', '.join(new)}"
    if fitting := await no_longer_held(warehouse, target, batch.held):
        return "copy", f"quarantined rows may fit column {', '.join(fitting)} now"
    return "changes", f"changes of the log since {state.value}"


async def _lost(
    origin: Connection[Record],
    batch: TablePlan,
    state: CursorState,
    facts: tuple[Capture, Captured, dict[str, Any]],
) -> str | None:
    """Why the log does not have all changes since the stored position, or does not belong to it."""
    capture, of_log, identity = facts
    at = position.of(state)
    if at is None:
        return (
            "raw was not loaded from the log so far" if state.value is not None else "no position in the log is stored"
        )
    if state.identity["log"].get("slot") != capture.names.slot:
        return f"another slot is declared ({capture.names.slot})"
    if state.identity["log"].get("publication") != of_log.publication:
        return f"publication {capture.names.publication} was made again or altered"
    if capture.lost is not None:
        return f"slot {capture.names.slot} has lost its WAL ({capture.lost})"
    if not capture.has_slot:
        return f"slot {capture.names.slot} is gone"
    if capture.confirmed is None or capture.confirmed > at:
        return f"slot {capture.names.slot} begins behind the stored position"
    if capture.retained > capture.log.limit:
        return f"slot {capture.names.slot} retains {capture.retained / 1e9:,.1f} GB, more than max_retained"
    # A rewritten file is no doubt by itself: truncates are in the log.
    now = {
        **identity,
        "log": state.identity["log"],
        "table": {**identity["table"], "file": state.identity.get("table", {}).get("file")},
    }
    found = await doubt(origin, batch.table, state.identity, now, batch.target.where)
    return found.reason if found is not None else None


async def _rewritten(
    origin: Connection[Record], batch: TablePlan, state: CursorState, identity: dict[str, Any]
) -> str | None:
    """Whether all rows were rewritten, by a truncate or by `alter table … type … using …`."""
    if any(change.change == "retyped" for change in batch.changes):
        return None  # a wider type holds the same values
    now = {**identity, "log": state.identity["log"]}
    found = await doubt(origin, batch.table, state.identity, now, batch.target.where)
    return found.reason if found is not None else None


def _unseen(changes: list[SchemaChange], state: CursorState, of_log: Captured) -> list[str]:
    """New columns of which rows have values that no change brings: by a default, or under another name before."""
    known = [facts["at"] for facts in state.identity.get("columns", {}).values()]
    found = returned(changes)
    for change in changes:
        if change.change == "added":
            column = of_log.columns.get(change.column, {"at": 0, "filled": True})
            if column["filled"] or column["at"] <= max(known, default=0):
                found.append(change.column)
    return found
