"""What a load of a table of events would do now: which files are complete and not read yet. Touches nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.kinds.debezium.declared import Debezium, EventTable
from flows.kinds.debezium.position import Position, position_of
from flows.kinds.debezium.values import is_unprotected
from flows.kinds.files.left import Left, in_words
from flows.kinds.files.manifest import Listed
from flows.kinds.files.place import Found, Place
from flows.kinds.files.plan import complete_files
from flows.kinds.files.state import KnownFiles, read_files
from flows.landing.table import Target, raw_columns
from flows.publish.identity import refuse_other_key
from flows.state import ledger, reloads
from flows.values.plan import LoadPlan

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class EventsPlan:
    """A table's next load. `pending` are the files to read, `listed` what manifests say of them; `left` are those
    that are skipped.

    `position` is what was read before, empty for a first load and a reload; `before` what it was for a reload, to tell
    whether the files reach back as far. `raw` are raw's columns, None before the first load.
    """

    plan: LoadPlan
    target: Target
    raw: dict[str, str] | None
    position: Position
    before: Position | None
    pending: Sequence[Found]
    left: Sequence[Left]
    listed: Mapping[str, Listed]

    @property
    def rereads(self) -> bool:
        """Whether everything is read again."""
        return self.plan.strategy == "reload"


async def plan_events(warehouse: Connection[Record], place: Place, source: Debezium, table: EventTable) -> EventsPlan:
    """The plan of the table's load."""
    target = Target(source.name, table.name, source.raw_schema)
    raw = await raw_columns(warehouse, target)
    stored, why, known = None, None, KnownFiles()
    if raw is not None:
        await refuse_other_key(warehouse, target, table.keys)
        stored = position_of(await ledger.read_cursor(warehouse, source.name, table.name))
        known = await read_files(warehouse, target.name)
        why = await reloads.reason(warehouse, source.name, table.name)
        if why is None and stored is not None and stored.topic != table.topic:
            why = f"the topic was {stored.topic}, and {table.topic} is declared"
    left: list[Left] = []
    found = place.matching(table.pattern, left)
    complete, listed = complete_files(place, source.ready, found, left)
    pending = [one for one in complete if why is not None or not _is_read(one, known)]
    strategy = "initial" if raw is None else "reload" if why else "merge"
    position = stored if strategy == "merge" and stored is not None else Position(table.topic)
    plan = LoadPlan(
        source.name,
        table.name,
        strategy,
        _reason(pending, position, why),
        lower=position.text,
        warning=in_words(left),
        cautions=_cautions(table, raw),
    )
    return EventsPlan(plan, target, raw, position, stored, pending, left, listed)


def _cautions(table: EventTable, raw: Mapping[str, str] | None) -> tuple[str, ...]:
    at_risk = [name for name, kind in {**(raw or {}), **table.types}.items() if is_unprotected(kind)]
    if not at_risk:
        return ()
    return (
        f"an update that leaves a large value of {', '.join(at_risk)} as it is sends null for it, as Debezium has no "
        "placeholder for the type: give the table replica identity full, or read it by another kind of source",
    )


def _is_read(found: Found, known: KnownFiles) -> bool:
    """Whether nothing was written to the file since it was read."""
    before = known.now.get(found.path)
    return before is not None and before.signature == found.signature


def _reason(pending: Sequence[Found], position: Position, why: str | None) -> str:
    size = sum(one.size for one in pending)
    parts = [f"{len(pending):,} {'file' if len(pending) == 1 else 'files'} to read, {size / 1e6:,.1f} MB"]
    if not pending:
        parts = ["no new file"]
    if position.text is not None:
        parts.append(f"next offsets {position.text}")
    if why is not None:
        parts.append(why)
    return "; ".join(parts)
