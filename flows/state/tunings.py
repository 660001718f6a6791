"""Changes of the tuner in `ops.tunings`: what was accepted and applied, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flows.values.settings import Settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Settings that may be set for one table.
TUNABLE = frozenset({"load_readers", "large_load_mb", "medium_load_mb"})

_COLUMNS = (
    "tuning_id, recommendation, kind, source_system, table_name, model, change, undo, settings, measure, before, "
    "expected, keep, accepted_by, accepted_at, applied_at, after, verdict, evaluated_at, reverted_at, reverted_by, "
    "revert_reason"
)
_JSON = ("settings", "before", "expected", "after")


@dataclass(frozen=True, slots=True)
class Tuning:
    """One row. `before`, `expected` and `after` have figures by name; `undo` is SQL, or a word of what to edit."""

    tuning_id: int
    recommendation: str
    kind: str
    source_system: str | None
    table_name: str | None
    model: str | None
    change: str
    undo: str | None
    settings: Mapping[str, float] | None
    measure: str
    before: Mapping[str, Any]
    expected: Mapping[str, Any]
    keep: bool
    accepted_by: str
    accepted_at: datetime
    applied_at: datetime | None
    after: Mapping[str, Any] | None
    verdict: str | None
    evaluated_at: datetime | None
    reverted_at: datetime | None
    reverted_by: str | None
    revert_reason: str | None

    @property
    def subject(self) -> str:
        """`shop.baskets`, `shop`, or a model's name."""
        return self.model or ".".join(name for name in (self.source_system, self.table_name) if name)

    @property
    def state(self) -> str:
        """accepted (not in effect yet), reverted, or the verdict."""
        if self.reverted_at is not None:
            return "reverted"
        return "accepted" if self.applied_at is None else self.verdict or "learning"


#: Settings of a table that the tuner has set, as JSON, the oldest first. $1 is the source, $2 the table.
SETTINGS = (
    "select settings::text from ops.tunings where source_system = $1 and table_name = $2 "
    "and settings is not null and applied_at is not null and reverted_at is null order by tuning_id"
)


def tuned(limits: Settings, found: Iterable[str]) -> Settings:
    """The settings of a table's loads: those of the process, but for what SETTINGS found for this table."""
    chosen: dict[str, float] = {}
    for text in found:
        chosen |= {name: value for name, value in json.loads(text).items() if name in TUNABLE}
    return limits.model_copy(update=chosen) if chosen else limits


async def tunings(connection: Connection[Record], *, unfinished: bool = False) -> list[Tuning]:
    """All, the newest first. `unfinished`: only those that are not taken back."""
    rows = await connection.fetch(
        f"select {_COLUMNS} from ops.tunings where not $1 or reverted_at is null order by tuning_id desc", unfinished
    )
    return [_tuning(row) for row in rows]


async def find_tuning(connection: Connection[Record], tuning_id: int) -> Tuning | None:
    """The one of that id."""
    row = await connection.fetchrow(f"select {_COLUMNS} from ops.tunings where tuning_id = $1", tuning_id)
    return None if row is None else _tuning(row)


async def open_tuning(connection: Connection[Record], facts: Mapping[str, Any]) -> int | None:
    """A new row; keys are columns. None if the recommendation was accepted before and not taken back."""
    columns, places = ", ".join(facts), ", ".join(f"${place}" for place in range(1, len(facts) + 1))
    values = [json.dumps(value) if name in _JSON and value is not None else value for name, value in facts.items()]
    found: int | None = await connection.fetchval(
        f"insert into ops.tunings ({columns}) values ({places}) "
        "on conflict (recommendation) where reverted_at is null do nothing returning tuning_id",
        *values,
    )
    return found


async def mark_applied(connection: Connection[Record], tuning_id: int, at: datetime | None = None) -> None:
    """It is in effect from now on, or since `at`."""
    await connection.execute(
        "update ops.tunings set applied_at = coalesce($2, clock_timestamp()) "
        "where tuning_id = $1 and applied_at is null",
        tuning_id,
        at,
    )


async def record_verdict(
    connection: Connection[Record], tuning_id: int, after: Mapping[str, Any], verdict: str
) -> None:
    """What came of it, in place of the former verdict."""
    await connection.execute(
        "update ops.tunings set after = $2, verdict = $3, evaluated_at = clock_timestamp() where tuning_id = $1",
        tuning_id,
        json.dumps(after),
        verdict,
    )


async def mark_reverted(connection: Connection[Record], tuning_id: int, by: str, reason: str) -> None:
    """It was taken back."""
    await connection.execute(
        "update ops.tunings set reverted_at = clock_timestamp(), reverted_by = $2, revert_reason = $3 "
        "where tuning_id = $1 and reverted_at is null",
        tuning_id,
        by,
        reason,
    )


def _tuning(row: Record) -> Tuning:
    facts = dict(row)
    for name in _JSON:
        facts[name] = None if facts[name] is None else json.loads(facts[name])
    return Tuning(**facts)
