"""Carry out a recommendation on request, write it down with the figures before, and take it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg

from flows.access.addresses import connect
from flows.operations.tuning.indexes import scanned
from flows.operations.tuning.measuring import measure
from flows.operations.tuning.recommendation import Recommendation
from flows.state.tunings import Tuning, mark_applied, mark_reverted, open_tuning, record_verdict
from flows.values.connection import DatabaseConnection
from flows.values.errors import DeclarationError, WarehouseError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: An index that leaves more than this of the pages to touch does not help.
PAGES_LEFT = 0.8
#: Figures before: of so many days.
BEFORE_DAYS = 28
AUTOMATIC = "automatically"


@dataclass(frozen=True, slots=True)
class Applied:
    """`applied`: it is in effect. Otherwise `note` says what is left to do, or why it was taken back."""

    tuning_id: int
    applied: bool
    note: str


async def apply(
    connection: Connection[Record],
    recommendation: Recommendation,
    by: str,
    now: datetime,
    *,
    keep: bool = False,
    owner: DatabaseConnection | None = None,
) -> Applied:
    """Apply it if it is a setting, an index in the warehouse, or one at a source of which `owner` is the owner's
    connection; everything else is accepted, and in effect once the declaration says so.

    `keep`: it is not taken back automatically. An index that the planner does not use is dropped at once otherwise.

    Raises:
        DeclarationError: it was accepted before and not taken back.
        WarehouseError: the statement failed; it is taken back.
    """
    chosen = recommendation
    subject = (chosen.source, chosen.table, chosen.model)
    before: dict[str, Any] = {}
    for what in {chosen.measure, _seconds(chosen)}:
        before[what] = (await measure(connection, what, subject, now - timedelta(days=BEFORE_DAYS), now)).values()
    if chosen.probe is not None:
        before["pages"] = (await scanned(connection, chosen.probe)).pages
    facts: Mapping[str, Any] = {
        "recommendation": chosen.id,
        "kind": chosen.kind,
        "source_system": chosen.source,
        "table_name": chosen.table,
        "model": chosen.model,
        "change": chosen.change,
        "undo": chosen.undo,
        "settings": None if chosen.settings is None else dict(chosen.settings),
        "measure": chosen.measure,
        "before": before | {"strategy": await _strategy(connection, chosen)},
        "expected": dict(chosen.expected),
        "keep": keep,
        "accepted_by": by,
    }
    tuning_id = await open_tuning(connection, facts)
    if tuning_id is None:
        raise DeclarationError(
            f"{chosen.id} was accepted before and not taken back",
            where="tune",
            fix="`medallion tune report` shows what came of it",
        )
    if chosen.by == "warehouse":
        return await _index(connection, connection, chosen, tuning_id, before, keep=keep)
    if chosen.by == "source" and owner is not None:
        async with connect(owner, side="warehouse", application="medallion tune") as at_source:
            return await _index(connection, at_source, chosen, tuning_id, before, keep=keep)
    if chosen.by == "setting":
        await mark_applied(connection, tuning_id)
        return Applied(tuning_id, True, "the next load reads it")
    word = "have the owner of the source run it" if chosen.by == "source" else "edit the declaration and deploy it"
    return Applied(tuning_id, False, f"accepted; {word}: it is measured from then on")


def _seconds(chosen: Recommendation) -> str:
    if chosen.model is not None:
        return "seconds per build"
    return "seconds per run" if chosen.table is None else "seconds per load"


async def _strategy(connection: Connection[Record], chosen: Recommendation) -> str | None:
    strategy: str | None = await connection.fetchval(
        "select strategy from ops.loads where source_system = $1 and table_name = $2 and status = 'published' "
        "and strategy not in ('initial', 'reload', 'backfill', 'repair', 'replay', 'limited') "
        "order by batch_id desc limit 1",
        chosen.source,
        chosen.table,
    )
    return strategy


async def _index(
    connection: Connection[Record],
    place: Connection[Record],
    chosen: Recommendation,
    tuning_id: int,
    before: Mapping[str, Any],
    *,
    keep: bool,
) -> Applied:
    """Create it beside running loads. One that failed half-way is invalid, and is dropped."""
    try:
        await place.execute(chosen.change)
    except asyncpg.PostgresError as problem:
        if not isinstance(problem, asyncpg.DuplicateTableError):
            await place.execute(chosen.undo)
        await mark_reverted(connection, tuning_id, AUTOMATIC, f"the statement failed ({problem.sqlstate})")
        raise WarehouseError(
            f"the index was not created ({type(problem).__name__}, {problem.sqlstate})",
            where=chosen.subject,
            fix="`medallion tune apply` again once nothing locks the table; as the owner of the table",
            retryable=True,
        ) from None
    await mark_applied(connection, tuning_id)
    if chosen.probe is None:
        return Applied(tuning_id, True, "the next load uses it")
    pages = (await scanned(connection, chosen.probe)).pages
    helped = pages <= PAGES_LEFT * before["pages"]
    told = f"{pages:,} pages in place of {before['pages']:,}"
    await record_verdict(connection, tuning_id, {"pages": pages}, "learning" if helped else "no difference")
    if helped or keep:
        return Applied(tuning_id, True, f"the same rows are found in {told}")
    await place.execute(chosen.undo)
    await mark_reverted(connection, tuning_id, AUTOMATIC, told)
    return Applied(tuning_id, False, f"taken back: {told}")


async def revert(
    connection: Connection[Record],
    tuning: Tuning,
    by: str,
    reason: str,
    owner: DatabaseConnection | None = None,
) -> str:
    """Take it back, as far as that needs no edit; returns what is left to do, empty if nothing is.

    Raises:
        WarehouseError: an index could not be dropped now.
    """
    place_is_ours = tuning.kind == "warehouse-index"
    if tuning.applied_at is not None and tuning.undo is not None and tuning.kind.endswith("-index"):
        try:
            if place_is_ours:
                await connection.execute(tuning.undo)
            elif owner is not None:
                async with connect(owner, side="warehouse", application="medallion tune") as at_source:
                    await at_source.execute(tuning.undo)
        except asyncpg.PostgresError as problem:
            raise WarehouseError(
                f"the index was not dropped ({type(problem).__name__}, {problem.sqlstate})",
                where=tuning.subject,
                fix="`medallion tune revert` again once nothing locks the table",
                retryable=True,
            ) from None
    await mark_reverted(connection, tuning.tuning_id, by, reason)
    if tuning.settings is not None or place_is_ours or owner is not None or tuning.applied_at is None:
        return ""
    return tuning.undo or ""
