"""Quarantined rows counted, shown and discarded. Values are shown only for a reason, which is recorded first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from flows.access import addresses
from flows.declare.source import Loadable
from flows.kinds.registry import kind_of
from flows.landing.drift import PREFIX
from flows.quality import entries, looks
from flows.quality.entries import Count, Entry, Wanted
from flows.quality.looks import SILVER, Look
from flows.state import ledger
from flows.values.errors import DeclarationError
from flows.verbs.find import find_source, find_table

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Names, outside of literals.
_WORDS = re.compile(r"'(?:[^']|'')*'|\"((?:[^\"]|\"\")+)\"|([a-z_][a-z0-9_$]*)", re.IGNORECASE)
_FIELD = re.compile(r"->>?\s*'((?:[^']|'')*)'")


@dataclass(frozen=True, slots=True)
class Reveal:
    """Who wants to see values, and why."""

    by: str
    reason: str


async def count_rows(
    name: str | None,
    rule: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    resolved: bool = False,
) -> list[Count]:
    """Quarantined rows by table and rule, of a source, a table, or all; at the end those of silver's quarantine.

    Raises:
        DeclarationError: the source or table is not declared.
    """
    wanted = replace(_wanted(name), rule=rule, since=since, until=until, resolved=resolved)
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        found = await entries.count(warehouse, wanted)
    if name is not None or resolved:
        return found
    async with addresses.connect(addresses.warehouse("transformer"), side="warehouse") as warehouse:
        return found + await looks.count_silver(warehouse, wanted)


async def show_rows(names: Sequence[str], limit: int, reveal: Reveal | None = None) -> list[Look]:
    """Rows by their ids, or the first open ones of tables: their columns, with values only to a `reveal`.

    Raises:
        DeclarationError: a row or table does not exist, or no reason is given.
    """
    if reveal is not None and not reveal.reason.strip():
        raise DeclarationError(
            "values are shown only for a reason, which is recorded",
            where="medallion quarantine show",
            fix='add --reason "…"',
        )
    found: list[Look] = []
    if tables := [name for name in names if name.startswith(f"{SILVER}.")]:
        async with addresses.connect(addresses.warehouse("transformer"), side="warehouse") as warehouse:
            for name in tables:
                silver = await looks.look_at_silver(warehouse, name, limit, reveals=False)
                await _record(reveal, name, [], len(silver))
                found += await looks.look_at_silver(warehouse, name, limit, reveals=True) if reveal else silver
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        shown = await _entries(warehouse, [name for name in names if name not in tables], limit)
        for table in dict.fromkeys(entry.table for entry in shown):
            numbers = [entry.number for entry in shown if entry.table == table]
            await _record(reveal, table, numbers, len(numbers))
        for entry in shown:
            look = await looks.look_at(warehouse, entry, reveals=reveal is not None)
            found.append(replace(look, read_by_rule=_read_by(entry, [column.name for column in look.columns])))
    return found


async def discard_rows(numbers: Sequence[int], by: str, reason: str) -> list[Entry]:
    """Close rows that nobody wants in raw. They stay readable, and counted as long as the source has them.

    Raises:
        DeclarationError: a row does not exist or is closed, or no reason is given. Nothing was discarded.
    """
    if not reason.strip():
        raise DeclarationError(
            "a discarded row needs a reason", where="medallion quarantine discard", fix='add --reason "…"'
        )
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        async with warehouse.transaction():
            await entries.find(warehouse, numbers)
            done = await entries.discard(warehouse, numbers, by, reason)
            after = await entries.find(warehouse, numbers)
            if closed := [f"{entry.number} ({entry.resolution})" for entry in after if entry.number not in done]:
                raise DeclarationError(
                    f"rows are closed already: {', '.join(closed)}",
                    where="quarantine.rows",
                    fix="leave them out",
                )
    return after


async def tables_with_open_rows() -> list[str]:
    """Declared tables with rows that may be loaded again."""
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        names = await entries.tables(warehouse)
    return [name for name in names if _declared(name) is not None]


def _wanted(name: str | None) -> Wanted:
    if name is None:
        return Wanted()
    source, _, table = name.partition(".")
    if table:
        find_table(name)
    else:
        find_source(source)
    return Wanted(source, table or None)


async def _entries(warehouse: Connection[Record], names: Sequence[str], limit: int) -> list[Entry]:
    found = await entries.find(warehouse, [int(name) for name in names if name.isdecimal()])
    for name in names:
        if not name.isdecimal():
            found += await entries.of_tables(warehouse, _wanted(name), limit)
    return list({entry.number: entry for entry in found}.values())


async def _record(reveal: Reveal | None, place: str, numbers: list[int], rows: int) -> None:
    """Committed before a value is read."""
    if reveal is None or not rows:
        return
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        await entries.record_reveal(warehouse, place, numbers, rows, reveal.by, reveal.reason)


def _declared(name: str) -> Loadable | None:
    try:
        return find_table(name)[1]
    except DeclarationError:
        return None


def _read_by(entry: Entry, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that the broken rule reads, as far as its declaration tells."""
    if entry.rule.startswith(PREFIX):
        return (entry.rule.removeprefix(PREFIX),)
    table = _declared(entry.table)
    if table is None:
        return ()
    checks = kind_of(find_table(entry.table)[0]).row_checks(table)
    match entry.rule:
        case "key_present" | "key_not_unique":
            return table.keys
        case "cursor_present":
            return (checks.cursor,) if checks.cursor else ()
        case _:
            conditions = [rule.condition for rule in checks.rules if rule.name == entry.rule]
            words = {one[0] or one[1].lower() for text in conditions for one in _WORDS.findall(text)}
            fields = {f"payload.{field}" for text in conditions for field in _FIELD.findall(text)}
            named = [name for name in columns if name in words or name in fields]
            # Of a record, its fields say more than that it is one.
            return tuple(name for name in named if name != "payload" or not fields)
