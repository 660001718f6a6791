"""Kinds of sources that break a promise: what the conformance suite must notice, in every kind.

A mutant is the kind itself, but for what it does between staging and publishing. It does it silently: its own counts
agree with what it publishes, as those of a reader with a bug do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import fields, replace
from typing import Any
from unittest.mock import patch

from flows.kinds.answers import EventTime, Planned
from flows.kinds.kind import Kind
from flows.publish.run import Loaded, LoadRun
from flows.publish.staged import Staged
from flows.state import ledger
from flows.values.errors import BudgetReached
from flows.values.plan import LoadCounts
from tests.kinds.conformance.end import End

Tamper = Callable[[LoadRun[Any, Any], Staged], Awaitable[Staged]]


class Mutant(Kind[Any, Any]):
    """Another kind, with a fault."""

    def __init__(self, kind: Kind[Any, Any]) -> None:
        self._kind = kind

    def __getattribute__(self, name: str) -> Any:
        own = {"_kind", "load", "tampered", "acknowledge", "__class__", "__dict__"}
        if name in own or name in type(self).__dict__:
            return object.__getattribute__(self, name)
        return getattr(object.__getattribute__(self, "_kind"), name)

    async def acknowledge(self, run: LoadRun[Any, Any], planned: Planned, loaded: Loaded) -> None:
        await self._kind.acknowledge(run, planned, loaded)

    async def load(self, run: LoadRun[Any, Any], planned: Planned) -> Loaded:
        tampered = self.tampered

        class Tampered(LoadRun[Any, Any]):
            async def publish(self, part: Staged, note: Any = None) -> LoadCounts:
                return await super().publish(await tampered(self, part), note)

        given = {field.name: getattr(run, field.name) for field in fields(run)}
        return await self._kind.load(Tampered(**given), planned)

    async def tampered(self, run: LoadRun[Any, Any], part: Staged) -> Staged:
        """What is published instead of the part."""
        return part


class DropsTheLastRow(Mutant):
    """A reader that stops one row early: an off-by-one at the end of each batch."""

    async def tampered(self, run: LoadRun[Any, Any], part: Staged) -> Staged:
        landing = run.target.landing
        gone = await run.warehouse.execute(f"delete from {landing} where ctid = (select max(ctid) from {landing})")
        return replace(part, rows_read=part.rows_read - int(gone.split()[-1]))


class DoublesARow(Mutant):
    """A reader that goes back a row when it goes on: the last one comes twice."""

    async def tampered(self, run: LoadRun[Any, Any], part: Staged) -> Staged:
        landing = run.target.landing
        more = await run.warehouse.execute(
            f"insert into {landing} select * from {landing} where ctid = (select max(ctid) from {landing})"
        )
        return replace(part, rows_read=part.rows_read + int(more.split()[-1]))


class ChoosesACopy(Mutant):
    """A reader that keeps one row of each key and says nothing, as loads once did."""

    async def tampered(self, run: LoadRun[Any, Any], part: Staged) -> Staged:
        landing = run.target.landing
        gone = await run.warehouse.execute(
            f"delete from {landing} as l using {landing} as o where l.id = o.id and l.ctid < o.ctid"
        )
        return replace(part, rows_read=part.rows_read - int(gone.split()[-1]))


class SwapsTwoValues(Mutant):
    """A reader that gives a row the value of another, as one does whose columns get out of step."""

    def __init__(self, kind: Kind[Any, Any], end: End) -> None:
        super().__init__(kind)
        self.__dict__["end"] = end

    async def tampered(self, run: LoadRun[Any, Any], part: Staged) -> Staged:
        await run.warehouse.execute(self.__dict__["end"].swapped.format(run.target.landing))
        return part


class ConfirmsBeforeTheCommit(Mutant):
    """A reader that tells its source that all is well, and then publishes."""

    async def load(self, run: LoadRun[Any, Any], planned: Planned) -> Loaded:
        await self.acknowledge(run, planned, Loaded(planned.plan, LoadCounts()))
        return await self._kind.load(run, planned)


class MarksWhatItDoesNotSee(Mutant):
    """A plan that leaves deletes out of sight, as one did: it says that nothing is pending."""

    async def waiting(self, warehouse: Any, origin: Any, planned: Planned) -> Any:
        return replace(await self._kind.waiting(warehouse, origin, planned), keys_differ=False)


class TrustsAnyCursor(Mutant):
    """A reader that takes the stored value for one of whatever column is declared, as one did."""

    async def plan(self, warehouse: Any, origin: Any, source: Any, table: Any) -> Planned:
        honest = ledger.cursor_state

        def without_identity(*arguments: Any) -> Any:
            return replace(honest(*arguments), identity={})

        with patch.object(ledger, "cursor_state", without_identity):
            return await self._kind.plan(warehouse, origin, source, table)


class LoadsWhatIsBehindAMask(Mutant):
    """A reader that takes a masked column for any other."""

    async def plan(self, warehouse: Any, origin: Any, source: Any, table: Any) -> Planned:
        return await self._kind.plan(warehouse, origin, source, replace(table, masked={}))

    async def load(self, run: LoadRun[Any, Any], planned: Planned) -> Loaded:
        given = {field.name: getattr(run, field.name) for field in fields(run)}
        return await self._kind.load(LoadRun(**given | {"table": replace(run.table, masked={})}), planned)

    async def compare(self, ends: Any) -> Any:
        return await self._kind.compare(replace(ends, table=replace(ends.table, masked={})))


class TakesASampleForAll(Mutant):
    """A reader that reads a part, and publishes it as any other read."""

    async def tampered(self, run: LoadRun[Any, Any], part: Staged) -> Staged:
        identity = {name: facts for name, facts in part.window.next.identity.items() if name != "limited"}
        following = replace(part.window.next, value="2020-01-02 00:00:00", identity=identity)
        return replace(part, limited=False, moves_cursor=True, window=replace(part.window, next=following))


class NamesAnotherEvent(Mutant):
    """A kind whose events are in a column that raw does not have."""

    def event_time(self, table: Any) -> EventTime | None:
        return EventTime("no_such_column")


class ForgetsTheRules(Mutant):
    """A kind whose quarantined rows are loaded again whatever they break."""

    def row_checks(self, table: Any) -> Any:
        return replace(self._kind.row_checks(table), rules=())


class ReportsCompleteness(Mutant):
    """A reader that stops at its budget and says nothing of it, as one does that takes a limit for the end."""

    async def load(self, run: LoadRun[Any, Any], planned: Planned) -> Loaded:
        try:
            return await self._kind.load(run, planned)
        except BudgetReached:
            return Loaded(planned.plan, run.published)


class ForgetsItsPlace(Mutant):
    """A reader that stops at its budget and keeps neither what it has nor where it was."""

    async def load(self, run: LoadRun[Any, Any], planned: Planned) -> Loaded:
        try:
            return await self._kind.load(run, planned)
        except BudgetReached:
            for table in ("ops.chunks", "ops.reads", "ops.list_reads"):
                await run.warehouse.execute(f"delete from {table}")
            raise


def mutants(kind: Kind[Any, Any], end: End) -> dict[str, Mutant]:
    """Each fault in this kind."""
    return {
        "drops the last row": DropsTheLastRow(kind),
        "doubles a row": DoublesARow(kind),
        "swaps two values": SwapsTwoValues(kind, end),
        "chooses a copy": ChoosesACopy(kind),
        "confirms before the commit": ConfirmsBeforeTheCommit(kind),
    }


NAMES = ("drops the last row", "doubles a row", "swaps two values", "chooses a copy", "confirms before the commit")
