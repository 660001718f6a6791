"""Reconciliation by counts, for sources whose content cannot be compared."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.landing.table import Target
from flows.publish import raw_rows
from flows.quality import open_rows
from flows.state.reconciliations import Reconciliation

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def _nothing(_: int) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Totals:
    """The source's side of a comparison by counts.

    `source_rows`: its number of rows (None: unknown). `key_types`: the key's columns and their types in raw.
    `below`: SQL over raw, the rows that `source_rows` counts. `coming`: for a number of missing rows, the most that the
    next load would bring. `note`: why only counts are compared. `newest`: of keys that are not unique, raw has one row.
    """

    source_rows: int | None
    key_types: Mapping[str, str]
    below: str = "true"
    coming: Callable[[int], Awaitable[int]] = _nothing
    note: str = ""
    newest: bool = False


async def compare_counts(warehouse: Connection[Record], target: Target, totals: Totals) -> Reconciliation:
    """Compare the source's count with raw and quarantine. Rows that the next load brings are not missing."""
    kept = await open_rows.key_set_not_in_raw(
        warehouse, target.raw, dict(totals.key_types), table=target.name, newest=totals.newest
    )
    aside = kept.rows
    duplicate = await open_rows.count_open_keys_not_unique(warehouse, table=target.name)
    held = await raw_rows.count_live(warehouse, target, totals.below)
    lacking = 0 if totals.source_rows is None else totals.source_rows - held - aside
    waiting = min(lacking, await totals.coming(lacking)) if lacking > 0 else 0
    verdict = "match" if lacking == waiting and not duplicate else "different"
    return Reconciliation(
        target.source,
        target.table,
        "count",
        "not_compared" if totals.source_rows is None else verdict,
        source_rows=totals.source_rows,
        raw_rows=held,
        missing=max(0, lacking - waiting),
        extra=max(0, -lacking),
        duplicate=duplicate,
        quarantined=aside,
        pending=waiting,
        note=totals.note,
    )
