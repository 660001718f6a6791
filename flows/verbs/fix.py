"""A quarantined row fixed by hand: the fixed version is stored beside the original, and loaded by a replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flows.access import addresses
from flows.kinds.registry import kind_of
from flows.landing.table import raw_columns
from flows.publish.replay import Beside, Chosen, open_replay
from flows.quality import entries
from flows.quality.entries import Entry
from flows.quality.open_rows import KEY_NOT_UNIQUE
from flows.state import ledger
from flows.values.errors import DeclarationError
from flows.verbs.edited_row import Editing
from flows.verbs.find import find_table


@dataclass(frozen=True, slots=True)
class Fixed:
    """A stored fix: the row, what was changed, and why a replay would still refuse the row (None: it would not)."""

    entry: Entry
    fix_id: int
    changed: tuple[str, ...]
    verdict: str | None


async def fix(number: int, values: Mapping[str, str | None], by: str, reason: str) -> Fixed:
    """Store a version of the row with other values; None is null. Several fixes add up, and each is kept.

    Of a table of records, `payload.status` is a field of the record, and columns made of the record follow it.

    Raises:
        DeclarationError: there is no such row or column, or the column is not for a person to set.
        DataRefused: a value is none of its column's type. The message does not repeat it.
    """
    _refuse_empty(values, reason, number)
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        (entry,) = await entries.find(warehouse, [number])
        _refuse_closed(entry)
        source, table = find_table(entry.table)
        target, kind = Beside(source.name, table.name, source.raw_schema), kind_of(source)
        replay = await open_replay(warehouse, target, table.keys, kind.row_checks(table))
        state = await ledger.read_cursor(warehouse, source.name, table.name)
        kind.refuse_replay(table, state, await raw_columns(warehouse, target) or {}, target.where)
        async with warehouse.transaction():
            document = await Editing(warehouse, replay, entry).edited(values)
            fix_id = await warehouse.fetchval(
                "insert into quarantine.fixes (quarantine_id, row_data, changed, reason, fixed_by) "
                "values ($1, $2::text::jsonb, $3, $4, $5) returning fix_id",
                number,
                document,
                list(values),
                reason,
                by,
            )
            verdict = await warehouse.fetchval(f"select verdict from ({replay.assessed(Chosen([number]))}) as j")
    return Fixed(entry, fix_id, tuple(values), verdict)


def _refuse_empty(values: Mapping[str, str | None], reason: str, number: int) -> None:
    if not values or not reason.strip():
        raise DeclarationError(
            "a fix needs a value and a reason",
            where=f"quarantined row {number}",
            fix=f'medallion quarantine fix {number} --set column=value --reason "…"',
        )


def _refuse_closed(entry: Entry) -> None:
    where = f"quarantined row {entry.number}"
    if not entry.withheld:
        raise DeclarationError(
            f"the row is closed: {entry.resolution}",
            where=where,
            fix=f"`medallion quarantine show {entry.table}` lists the open rows of the table",
        )
    if entry.rule == KEY_NOT_UNIQUE:
        raise DeclarationError(
            "several rows of the source have its key, and a fix here would not change that",
            where=where,
            fix="make the key unique at the source, or declare the right key",
        )
