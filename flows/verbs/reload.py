"""A full reload of a table, requested by a person: its next load reads all rows, or its raw table is made again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.access import addresses
from flows.landing.table import Target, raw_columns
from flows.state import ledger, reloads, table_locks
from flows.values.errors import DeclarationError, LoadLocked
from flows.values.identifiers import quote_identifier
from flows.verbs.find import find_table

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class Reload:
    """What was requested of one table; `kept_as`: the name under which its former raw table stays."""

    table: str
    kept_as: str | None = None


async def request_reload(names: list[str], by: str, *, recreate: bool = False) -> list[Reload]:
    """Have the next load of each table read all of its rows, and write what differs.

    With `recreate`, the raw table is renamed and the next load makes a new one, with the types that the source has now.
    Nothing is deleted.

    Raises:
        DeclarationError: a table is not declared, was never loaded, or has no key to merge by.
        LoadLocked: a load of a table to recreate is running.
    """
    done = []
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)
        for name in names:
            done.append(await request_in(warehouse, name, by, recreate=recreate))
    return done


async def request_in(warehouse: Connection[Record], name: str, by: str, *, recreate: bool = False) -> Reload:
    """As `request_reload`, for one table on this connection."""
    source, table = find_table(name)
    target = Target(source.name, table.name, source.raw_schema)
    if await raw_columns(warehouse, target) is None:
        raise DeclarationError(
            "the table was never loaded, so its next load reads all rows anyway",
            where=name,
            fix=f"`medallion run {name}`",
        )
    if not recreate and table.load is not None and not table.keys:
        raise DeclarationError(
            "without a key, rows that are read again would be in raw twice",
            where=name,
            fix=f"declare the key, or make the raw table again: `medallion reload {name} --recreate`",
        )
    if recreate:
        return Reload(name, await _rename(warehouse, target))
    await reloads.request(warehouse, source.name, table.name, by)
    return Reload(name)


async def _rename(warehouse: Connection[Record], target: Target) -> str:
    """Rename the raw table, under the lock of its loads; returns its new name."""
    if not await table_locks.lock_table(warehouse, target.source, target.table):
        raise LoadLocked(
            "a load of the table is running",
            where=target.where,
            fix="wait for it to end, then run this again",
            retryable=True,
        )
    try:
        suffix = f"_until_{datetime.now(UTC):%Y%m%d_%H%M%S}"
        kept_as = target.table[: 63 - len(suffix)] + suffix
        await warehouse.execute(f"alter table {target.raw} rename to {quote_identifier(kept_as)}")
    finally:
        await table_locks.unlock_table(warehouse, target.source, target.table)
    return f"{target.raw_schema}.{kept_as}"
