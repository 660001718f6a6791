"""MySQL and MariaDB with triggers: planned and loaded as other databases are, by the keys of the change table.

InnoDB's consistent snapshot shows the change table and the table as of one moment, and a load deletes exactly the ids
that it was shown. `truncate` of the change table waits, by its metadata lock, for every transaction whose triggers have
recorded there.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.captured.foreign_names import is_text
from flows.kinds.captured.foreign_state import (
    ForeignState,
    beside_the_table,
    look_foreign,
    recorded_foreign,
    refuse_unready_foreign,
)
from flows.kinds.captured.gone import close_quarantined, create_gone
from flows.kinds.captured.plan import OTHER_LOAD, Taken, as_copied, is_other, refuse_meanwhile
from flows.kinds.databases import rows
from flows.kinds.databases.connection import Reader, open_reader
from flows.kinds.databases.identity import doubt, identify
from flows.kinds.databases.masks import masked, ways
from flows.kinds.databases.plan import ForeignPlan, plan_foreign
from flows.kinds.databases.stage import carry_out
from flows.landing import copy
from flows.landing.csv import to_csv
from flows.publish.evolution import no_longer_held, returned
from flows.publish.run import Loaded, LoadRun
from flows.publish.staged import Staged
from flows.state import compared, ledger, reloads
from flows.values.errors import MedallionError, SourceUnavailable
from flows.values.plan import CursorState, LoadCounts
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Note = Callable[["Connection[Record]", int], Awaitable[None]]
_LONGEST_KEY = 8192
_DELETED_AT_ONCE = 500
_WAIT_SECONDS = 5
# Each id is looked up by itself, from a list: a range or a scan also locks the id that follows it, and waits for the
# transaction that has written it, while new ids wait for us.
_WITHOUT_GAPS = (
    "set session transaction isolation level read committed",
    f"set session innodb_lock_wait_timeout = {_WAIT_SECONDS}",
)
_RUNS = """
select cast(min(capture_id) as signed) as first, cast(max(capture_id) as signed) as last
from (
    select capture_id, cast(capture_id as signed) - row_number() over (order by capture_id) as run from {changes}
) as c
group by run order by 1
"""


@dataclass(frozen=True, slots=True)
class ForeignCaptured:
    """A captured table's next load, see `CapturedPlan`."""

    batch: ForeignPlan
    state: ForeignState
    in_full: bool
    lost: str | None
    identity: dict[str, Any]
    taken: Taken = field(default_factory=Taken)


async def plan_foreign_captured(
    warehouse: Connection[Record], reader: Reader, source: Database, table: Table
) -> ForeignCaptured:
    """The plan of the table's load. Reads source and warehouse and changes neither.

    Raises:
        ConfigurationError: changes of the table are not captured.
    """
    batch = await plan_foreign(warehouse, reader, source, as_copied(table))
    where = batch.target.where
    state = await look_foreign(reader, source, table)
    refuse_unready_foreign(state, where)
    assert state.identity is not None  # it is ready
    taken, captured = Taken(), dict(state.identity)
    taken.begin(await _last_token(reader, state), captured)
    identity = {**await identify(reader, batch.described), "captured": captured}
    stored = await ledger.read_cursor(warehouse, source.name, table.name)
    lost = "the change table is larger than max_waiting" if state.is_stopped else None
    why = (
        batch.plan.reason if batch.first else lost or await _in_full(warehouse, reader, batch, state, stored, identity)
    )
    strategy = "initial" if batch.first else "reload" if why else "merge"
    reason = why or "rows whose keys were captured"
    again = lost or (why if why == OTHER_LOAD else None)
    warning = "; ".join(part for part in (batch.plan.warning, again and f"{again}: all rows are read again") if part)
    bounded = replace(batch.bounded, condition="1 = 1", below="1 = 1")
    if not why:
        bounded = replace(bounded, condition=recorded_foreign(state))
        # Keys that are gone were recorded: the source's keys need not be read, unless a foreign key deletes rows.
        compared_by = replace(batch.described.table, deletes=state.deletes_unseen)
        batch = replace(batch, described=replace(batch.described, table=compared_by))
    plan = replace(
        batch.plan, strategy=strategy, reason=f"{reason}; {source.engine} via Arrow", warning=warning or None
    )
    return ForeignCaptured(replace(batch, plan=plan, bounded=bounded), state, bool(why), lost, identity, taken)


async def _last_token(reader: Reader, state: ForeignState) -> int:
    """The token of the load that has emptied the change table last; 0 before the first."""
    made = state.statements
    (row,) = await reader.rows(f"select token from {made.within(made.names.read)}")
    return int(row["token"])


async def _in_full(
    warehouse: Connection[Record],
    reader: Reader,
    batch: ForeignPlan,
    state: ForeignState,
    stored: CursorState,
    identity: dict[str, Any],
) -> str:
    """Why all rows of a table that raw has are read; empty if those that were recorded are enough."""
    assert state.identity is not None  # it is ready
    target, then, now = batch.target, stored.identity.get("captured"), identity["captured"]
    if (why := await reloads.reason(warehouse, target.source, target.table)) is not None:
        return why
    last = await compared.last_compared(warehouse, target.source, target.table)
    if last is not None and last.result == "extra":
        return "raw had rows that the source did not have"
    if then is None:
        return "raw was not loaded by captured changes so far"
    if then["created"] != now["created"] or then.get("changes") != now.get("changes"):
        return "the change table was emptied beyond its limit or by somebody else, or created again"
    if then.get("table") != now.get("table"):
        return "the table was truncated, altered or rebuilt since the last load"
    if is_other(then, now["seen"]):
        return OTHER_LOAD
    if any(then.get(name) != fact for name, fact in state.identity.items()):
        return "a trigger was created again since the last load"
    if (found := doubt(batch.described, stored.identity, identity)) is not None:
        return found.reason
    added = [change.column for change in batch.changes if change.change == "added"]
    if added or returned(batch.changes):
        return f"rows that did not change may have values in {', '.join(added + returned(batch.changes))}"
    if fitting := await no_longer_held(warehouse, target, batch.held):
        return f"quarantined rows may fit column {', '.join(fitting)} now"
    return ""


async def load_foreign_captured(run: LoadRun[Database, Table], planned: ForeignCaptured) -> Loaded:
    """Carry out the plan."""
    if planned.lost is not None:
        with run.session.reading():
            await _begin_again(run, planned)
    reading = _Reading(run, planned)

    class Capturing(LoadRun[Database, Table]):
        async def publish(self, part: Staged, note: Note | None = None) -> LoadCounts:
            return await run.publish(*await reading.with_gone(part, note))

    given = {name: getattr(run, name) for name in LoadRun.__dataclass_fields__ if name not in ("table", "origin")}
    table = planned.batch.described.table
    return await carry_out(Capturing(**given, table=table, origin=_Snapshot(run.origin, reading)), planned.batch)


async def _begin_again(run: LoadRun[Database, Table], planned: ForeignCaptured) -> None:
    """Empty the change table once no transaction is open that may have found it full.

    Raises:
        SourceUnavailable: one stays open.
    """
    reader, made = run.origin, planned.state.statements
    try:
        await reader.execute(f"set session lock_wait_timeout = {_WAIT_SECONDS}")
        await reader.execute(f"truncate table {made.changes}")
    except MedallionError:
        raise SourceUnavailable(
            "the change table cannot be emptied while a transaction that has written stays open",
            where=run.target.where,
            fix="the load is retried automatically; end that transaction: information_schema.innodb_trx shows it",
            retryable=True,
        ) from None
    state = await look_foreign(reader, run.source, run.table)
    refuse_unready_foreign(state, run.target.where)
    assert state.identity is not None  # it is ready
    planned.identity["captured"] |= state.identity


class _Snapshot:
    """The source's connection, which reads the change table when its snapshot begins."""

    def __init__(self, reader: Reader, reading: _Reading) -> None:
        self._reader, self._reading = reader, reading

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def begin(self) -> None:
        """Take the snapshot, and read what it shows of the change table."""
        await self._reader.begin()
        await self._reading.look(self._reader)


@dataclass(slots=True)
class _Reading:
    """What the snapshot shows of the change table, on its way to the warehouse."""

    run: LoadRun[Database, Table]
    planned: ForeignCaptured
    _gone: str | None = None

    async def look(self, reader: Reader) -> None:
        """Note the ids, and copy the keys that the table no longer has."""
        run, planned, described = self.run, self.planned, self.planned.batch.described
        made = planned.state.statements
        refuse_meanwhile(planned.taken.seen, await _last_token(reader, planned.state), run.target.where)
        found = await reader.rows(_RUNS.format(changes=made.changes))
        planned.taken.runs[:] = [(int(row["first"]), int(row["last"])) for row in found]
        if planned.in_full:
            return
        self._gone = await create_gone(run.warehouse, run.target, described.shape, run.table.keys)
        selected = ", ".join(f"{key.select} as c{place}" for place, key in enumerate(described.keys))
        joined, is_missing = beside_the_table(planned.state, reader, described.table)
        once = "" if any(is_text(spelled) for _, spelled in made.keys) else "distinct "  # texts by their bytes
        query = f"select {once}{selected} from {joined} where {is_missing} and ({rows.fits(described.keys)})"
        made_of_masks = ways(described.keys)

        async def chunks() -> AsyncGenerator[bytes, None]:
            async for batch in reader.batches(query, longest=_LONGEST_KEY):
                if batch.num_rows:
                    yield to_csv(masked(batch, made_of_masks), ())

        async with contextlib.aclosing(chunks()) as texts:
            await copy.copy_into(run.warehouse, f"{run.target.landing_name}__g", run.table.keys, texts, "csv")

    async def with_gone(self, part: Staged, note: Note | None) -> tuple[Staged, Note | None]:
        """The part with the recorded keys that the table no longer has."""
        run, planned, gone = self.run, self.planned, self._gone
        taken = planned.taken.runs
        upper = taken[-1][1] if taken else 0
        following = CursorState(str(upper), identity=planned.identity)
        part = replace(part, window=replace(part.window, next=following, lower=None, upper=str(upper)))
        if gone is None:
            return part, note
        await close_quarantined(run.warehouse, run.target, run.table.keys, part.shape)

        async def noted(warehouse: Connection[Record], batch_id: int) -> None:
            if note is not None:
                await note(warehouse, batch_id)
            await warehouse.execute(f"drop table {gone}")

        # Only what was recorded was read, though there is no cursor.
        return replace(part, gone=gone, rereads=False), noted


async def acknowledge_foreign(run: LoadRun[Database, Table], planned: ForeignCaptured) -> None:
    """Delete from the change table what the load has read, and nothing else: unless another load did so meanwhile,
    which the next one notices. If that fails, it is read again."""
    runs, made = planned.taken.runs, planned.state.statements
    if not runs:
        return
    address, seconds = run.source_address, settings().connect_timeout_seconds
    with contextlib.suppress(MedallionError):
        async with open_reader(run.source.engine, address, run.target.where, seconds) as reader:
            for statement in _WITHOUT_GAPS:
                await reader.execute(statement)
            taken = planned.taken
            await reader.execute(
                f"update {made.within(made.names.read)} set token = {taken.token} where token = {taken.seen}"
            )
            if await _last_token(reader, planned.state) != taken.token:
                return
            ids = (number for first, last in runs for number in range(first, last + 1))
            while some := [*itertools.islice(ids, _DELETED_AT_ONCE)]:
                listed = " union all ".join(f"select {number} as id" for number in some)
                await reader.execute(
                    f"delete c from ({listed}) as i straight_join {made.changes} as c on c.capture_id = i.id"
                )
