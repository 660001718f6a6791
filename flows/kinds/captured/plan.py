"""The plan of one load of a captured PostgreSQL table: all of it, or the rows whose keys were recorded."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from flows.declare import Merge
from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.captured.state import State, look, refuse_unready
from flows.kinds.postgres.identity import doubt
from flows.kinds.postgres.plan import TablePlan, plan_table
from flows.kinds.postgres.table import has_value_outside
from flows.landing.table import Target, raw_columns
from flows.publish.evolution import no_longer_held, returned
from flows.publish.identity import refuse_other_key
from flows.state import ledger, reloads
from flows.values.errors import SourceUnavailable
from flows.values.identifiers import quote_identifier
from flows.values.plan import CursorState, Reading

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(slots=True)
class Taken:
    """What a load has read of the change table: runs of ids, each without a gap. They are deleted after its commit.

    `seen`: the token of the load that has emptied the change table before; `token`: this one's.
    """

    runs: list[tuple[int, int]] = field(default_factory=list)
    seen: int = 0
    token: int = 0

    def begin(self, seen: int, identity: dict[str, Any]) -> None:
        """Draw a token, and store both with the identity of the capture.

        The next load finds one of the two at the source. If it finds another, somebody else has emptied the change
        table, or this warehouse was restored to a state before.
        """
        self.seen, self.token = seen, secrets.randbits(62) + 1
        identity |= {"seen": seen, "token": self.token}


@dataclass(frozen=True, slots=True)
class CapturedPlan:
    """A captured table's next load. `lost`: why changes are missing in the change table, so that it is emptied first.

    `in_full`: all rows are read; otherwise those that were recorded. `identity` is stored with the rows.
    """

    batch: TablePlan
    state: State
    in_full: bool
    lost: str | None
    identity: dict[str, Any]
    taken: Taken = field(default_factory=Taken)


def as_copied(table: Table) -> Table:
    """The table as all of it is read: with deletes. Its cursor is not needed."""
    return replace(table, cursor=None, load=Merge(), deletes=True)


OTHER_LOAD = (
    "the change table was emptied by a load that this warehouse does not know: it was restored, or a second warehouse "
    "reads this source, which then needs a source of another name"
)


def is_other(then: dict[str, Any], seen: int) -> bool:
    """Whether the last load that has emptied the change table is none of those that the identity knows."""
    return "token" in then and seen not in (then["seen"], then["token"])


def refuse_meanwhile(planned: int, seen: int, where: str) -> None:
    """Raises:
    SourceUnavailable: another load has emptied the change table since the plan.
    """
    if planned != seen:
        raise SourceUnavailable(
            "another load has emptied the change table meanwhile",
            where=where,
            fix="the load is retried automatically, and reads the table in full",
            retryable=True,
        )


def recorded(state: State, table: Table) -> str:
    """SQL over the table: rows whose key is in the change table, in the snapshot of the read."""
    keys = ", ".join(quote_identifier(key) for key in table.keys)
    return f"({keys}) in (select {keys} from {state.names.changes} where capture_op not in ('T', 'L'))"


async def last_token(origin: Connection[Record], state: State) -> int:
    """The token of the load that has emptied the change table last; 0 before the first."""
    return int(await origin.fetchval(f"select token from {state.names.read}"))


async def count_removed(origin: Connection[Record], state: State) -> int:
    """How often somebody else has removed rows from the change table."""
    return int(await origin.fetchval(f"select last_value::int8 + is_called::int from {state.names.lost}"))


async def plan_captured(
    warehouse: Connection[Record], origin: Connection[Record], source: Database, table: Table
) -> CapturedPlan:
    """The plan of the table's load. Reads source and warehouse and changes neither. In a transaction with its lock.

    Raises:
        ConfigurationError: changes of the table are not captured.
    """
    target = Target(source.name, table.name, source.raw_schema)
    raw = await raw_columns(warehouse, target)
    if raw is not None:
        await refuse_other_key(warehouse, target, table.keys)
    batch = await plan_table(warehouse, origin, source, as_copied(table))
    state = await look(origin, source, table)
    refuse_unready(state, target.where)
    assert state.identity is not None  # it is ready
    capture = {**state.identity, "removed": await count_removed(origin, state)}
    seen = await last_token(origin, state)
    identity = {name: fact for name, fact in batch.window.next.identity.items() if name != "written"}
    identity["captured"] = {**capture, "partitions": state.partitions}
    taken = Taken()
    taken.begin(seen, identity["captured"])
    stored, lost, why = await ledger.read_cursor(warehouse, source.name, table.name), None, batch.plan.reason
    if await origin.fetchval(f"select exists (select from {state.names.changes} where capture_op = 'L')"):
        lost = "the change table was larger than max_waiting, so the triggers stopped"
    if raw is not None:
        then = stored.identity.get("captured")
        if lost is None and then is not None and then["changes"] == capture["changes"]:
            interrupted = any(then[name] != fact for name, fact in capture.items())
            lost = "rows of the change table were removed by somebody else" if interrupted else None
            if lost and then["removed"] == capture["removed"]:
                lost = "a trigger was created again, or disabled for a while"
        why = lost or await _in_full(warehouse, origin, batch, state, stored, identity)
    captured = CapturedPlan(batch, state, bool(why), lost, identity, taken)
    return _planned(captured, raw is None, why, _attached(state, stored))


def _attached(state: State, stored: CursorState) -> list[str]:
    """The oids of partitions that were attached since the last load: with rows that were not recorded."""
    then = stored.identity.get("captured", {}).get("partitions")
    return [] if then is None else [oid for oid, mark in state.partitions.items() if then.get(oid) != mark]


async def _in_full(
    warehouse: Connection[Record],
    origin: Connection[Record],
    batch: TablePlan,
    state: State,
    stored: CursorState,
    identity: dict[str, Any],
) -> str:
    """Why all rows of a table that raw has are read; empty if those that were recorded are enough."""
    target, table = batch.target, batch.table
    if (why := await reloads.reason(warehouse, target.source, target.table)) is not None:
        return why
    if stored.identity.get("captured") is None:
        return "raw was not loaded by captured changes so far"
    if stored.identity["captured"]["changes"] != identity["captured"]["changes"]:
        return "the change table was created again since the last load"
    if is_other(stored.identity["captured"], identity["captured"]["seen"]):
        return OTHER_LOAD
    now = identity
    if await origin.fetchval(f"select exists (select from {state.names.changes} where capture_op = 'T')"):
        # That the file is another one is no doubt after a truncate, which was recorded.
        now = {**identity, "table": {**identity["table"], "file": stored.identity.get("table", {}).get("file")}}
    if (found := await doubt(origin, table, stored.identity, now, target.where)) is not None:
        return found.reason
    added = [change.column for change in batch.changes if change.change == "added"]
    back = returned(batch.changes)
    if back or (added and await has_value_outside(origin, table, added, recorded(state, table))):
        return f"rows that did not change may have values in {', '.join(added + back)}"
    if fitting := await no_longer_held(warehouse, target, batch.held):
        return f"quarantined rows may fit column {', '.join(fitting)} now"
    if any(change.change == "retyped" for change in batch.changes):
        return "a column's type has changed"
    return ""


def _planned(captured: CapturedPlan, first: bool, why: str, attached: list[str]) -> CapturedPlan:
    """The batch's plan, of all rows or of those that were recorded, with what came by attached partitions."""
    batch, lost = captured.batch, captured.lost
    following = CursorState("captured", identity=captured.identity)
    window = replace(batch.window, next=following)
    # A snapshot is read as a whole: chunks of an interrupted one belong to another.
    reading = replace(batch.plan.reading, restarts=False)
    if reading.volume == "small":
        reading = replace(reading, how="whole", by="", columns=(), readers=1)
    warning = lost or (why if why == OTHER_LOAD else None)
    warning = warning and f"{warning}: all rows are read again"
    strategy, reason = ("initial" if first else "reload"), why
    if not why:
        strategy, reason, reading = "merge", "rows whose keys were captured", Reading()
        condition = recorded(captured.state, batch.table)
        if attached:
            reason += f", and those of {len(attached)} attached partitions"
            condition = f"({condition} or tableoid in ({', '.join(attached)}))"
        reason += "".join(f"; columns: {change.column} {change.change}" for change in batch.changes)
        window = replace(window, condition=condition, lower="captured")
    plan = replace(
        batch.plan,
        strategy=strategy,
        reason=reason,
        reading=reading,
        lower=None,
        upper=None,
        warning="; ".join(part for part in (batch.plan.warning, warning) if part) or None,
    )
    return replace(captured, batch=replace(batch, plan=plan, window=window))
