"""Capture of changes, set up, shown and dropped: a source's slot and publication, and the positions of its tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, cast

from flows.access import addresses
from flows.access.addresses import connect
from flows.declare.database import Database
from flows.kinds.changelog import position, setup
from flows.kinds.changelog.capture import Capture, look
from flows.kinds.changelog.setup import Step
from flows.kinds.registry import kind_of
from flows.sources import SOURCES
from flows.state import change_counts
from flows.values.connection import DatabaseConnection
from flows.values.errors import DeclarationError
from flows.verbs.find import find_source

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class TablePosition:
    """A captured table: its position, the bytes of WAL behind it, and what its loads of changes brought in total.

    `position` is None before its first load, and while a snapshot is read; `committed_at` is when the source committed
    the last change that is in raw.
    """

    table: str
    position: str | None = None
    behind: int | None = None
    counts: change_counts.Totals = field(default_factory=change_counts.Totals)
    committed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CaptureStatus:
    """A source's capture, and its tables."""

    source: str
    capture: Capture
    tables: Sequence[TablePosition]


def captured_source(name: str) -> Database:
    """The declared source of that name.

    Raises:
        DeclarationError: it is not declared, or not with `capture=Log()`.
    """
    source = find_source(name)
    if source.kind != "changelog":
        raise DeclarationError(
            "the source has no capture",
            where=f"source {name}",
            fix="declare it with capture=Log(), for PostgreSQL: see docs/changes.md",
        )
    return cast(Database, source)


async def missing(name: str) -> list[Step]:
    """The statements that are missing before changes can be captured. Changes nothing."""
    source = captured_source(name)
    async with connect(kind_of(source).address(source), side="source", application="medallion capture") as origin:
        return await setup.missing_steps(origin, source)


async def set_up(name: str) -> list[Step]:
    """Run what is missing; what is refused stays, with who may run it."""
    source = captured_source(name)
    async with connect(_owner(source), side="source", application="medallion capture") as origin:
        return await setup.set_up(origin, source)


async def drop(name: str) -> list[Step]:
    """Drop slot and publication; what is refused stays. Raw stays as it is, and the next load refuses."""
    source = captured_source(name)
    async with connect(_owner(source), side="source", application="medallion capture") as origin:
        return await setup.tear_down(origin, source)


def _owner(source: Database) -> DatabaseConnection:
    """The source as the owner of its tables, if that is configured; else as the role that reads it."""
    variable = f"MEDALLION_SOURCE_{source.connection.upper()}_OWNER_URL"
    if url := os.environ.get(variable):
        return DatabaseConnection(f"{source.connection} (owner)", url)
    address: DatabaseConnection = kind_of(source).address(source)
    return address


async def status(names: Sequence[str] | None = None) -> list[CaptureStatus]:
    """Slot, publication and positions of the named sources, or of all that are captured. Changes nothing."""
    chosen = [captured_source(name) for name in names or [one.name for one in SOURCES if one.kind == "changelog"]]
    found = []
    async with connect(addresses.warehouse(), side="warehouse") as warehouse:
        for source in chosen:
            found.append(await status_of(warehouse, source))
    return found


async def status_of(warehouse: Connection[Record], source: Database) -> CaptureStatus:
    """The same of one source, by its declaration."""
    async with connect(kind_of(source).address(source), side="source", application="medallion capture") as origin:
        capture = await look(origin, source)
        ends = await origin.fetchval(
            "select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end::text"
        )
    at = await position.positions(warehouse, source.name, [table.name for table in source.tables])
    totals = await change_counts.totals(warehouse, source.name)
    tables = []
    for table in source.tables:
        reached = at.get(table.name)
        total = totals.get(table.name, change_counts.Totals())
        behind = None if reached is None else max(0, position.number(ends) - reached)
        tables.append(
            TablePosition(
                table.name, None if reached is None else position.text(reached), behind, total, total.committed_at
            )
        )
    return CaptureStatus(source.name, capture, tables)
