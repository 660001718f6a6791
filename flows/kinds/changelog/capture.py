"""The slot and the publication at a source: their names, what is known of them, and what contradicts a load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.declare.database import Database
from flows.declare.log import Log
from flows.declare.table import Table
from flows.kinds.changelog.position import number
from flows.values.errors import ConfigurationError, SourceError
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_CAPTURE, _TABLE = ((Path(__file__).parent / name).read_text(encoding="utf-8") for name in ("capture.sql", "table.sql"))
_DATABASE = "select oid::bigint from pg_database where datname = current_database()"


@dataclass(frozen=True, slots=True)
class Names:
    """The names of a source's slot and publication."""

    slot: str
    publication: str


@dataclass(frozen=True, slots=True)
class Capture:
    """What a source says of its log. `confirmed` is the position from which the slot can be read (None: no slot)."""

    names: Names
    log: Log
    version: int
    wal_level: str
    standby: bool
    database_id: int
    may_read: bool
    kept_at_most: str
    has_slot: bool
    lost: str | None
    confirmed: int | None
    retained: int
    reader: int | None
    has_publication: bool
    problem: str | None

    @property
    def is_readable(self) -> bool:
        """Whether the slot exists and still has its WAL."""
        return self.has_slot and self.lost is None


@dataclass(frozen=True, slots=True)
class Captured:
    """What the log has of a table: its oid, and its columns by name with their number, and whether existing rows may
    have got a value when they were added.
    `publication` tells this publication of the table from an earlier one.
    """

    id: int
    publication: str
    columns: Mapping[str, Mapping[str, Any]]


async def names_of(origin: Connection[Record], source: Database) -> Names:
    """As declared, or by the source's name and its database."""
    log = _log(source)
    default = f"medallion_{source.name}"[:40]
    if log.slot is None or log.publication is None:
        default = f"{default}_{await origin.fetchval(_DATABASE)}"
    return Names(log.slot or default, log.publication or default)


def _log(source: Database) -> Log:
    return source.capture if isinstance(source.capture, Log) else Log()


async def look(origin: Connection[Record], source: Database) -> Capture:
    """The state of slot and publication. Changes nothing."""
    names = await names_of(origin, source)
    row = await origin.fetchrow(_CAPTURE, names.slot, names.publication)
    assert row is not None  # the left joins always answer one row
    lost = None
    if row["has_slot"] and (row["wal_status"] == "lost" or row["invalidated"]):
        lost = str(row["invalidated"] or "wal_removed")
    return Capture(
        names=names,
        log=_log(source),
        version=row["version"],
        wal_level=row["wal_level"],
        standby=row["standby"],
        database_id=row["database_id"],
        may_read=bool(row["may_read"]),
        kept_at_most=row["kept_at_most"],
        has_slot=row["has_slot"],
        lost=lost,
        confirmed=number(row["confirmed"]) if row["confirmed"] else None,
        retained=row["retained"] or 0,
        reader=row["active_pid"],
        has_publication=row["publication_id"] is not None,
        problem=_problem(row, names),
    )


def _problem(row: Record, names: Names) -> str | None:
    """Why nothing can be captured, whatever the table."""
    if row["wal_level"] != "logical":
        return f"wal_level is {row['wal_level']} at the source, and must be logical"
    if row["standby"]:
        return "the source is a standby, and slots are read at the primary"
    if row["publication_id"] is None:
        return f"publication {names.publication} does not exist"
    if not row["publishes_all"]:
        return f"publication {names.publication} leaves out inserts, updates, deletes or truncates"
    if row["has_slot"] and row["plugin"] != "pgoutput":
        return f"slot {names.slot} belongs to plugin {row['plugin']}, not to pgoutput"
    if not row["may_read"]:
        return "the role that reads the source has no REPLICATION attribute"
    return None


def refuse_unready(capture: Capture, where: str) -> None:
    """Raises:
    ConfigurationError: the source is not set up for capture.
    """
    if capture.problem is not None:
        raise ConfigurationError(
            f"changes cannot be captured: {capture.problem}",
            where=where,
            fix=f"run `medallion capture setup {where.partition('.')[0]}`, which shows what needs an administrator",
        )


async def captured(
    origin: Connection[Record], capture: Capture, table: Table, shape: Shape | None, where: str
) -> Captured:
    """What the log has of the table, with the columns of `shape`.

    Raises:
        SourceError: changes of the table, or a part of them, would not arrive.
    """
    row = await origin.fetchrow(_TABLE, table.catalogued, capture.names.publication)
    setup = f"run `medallion capture setup {where.partition('.')[0]}`"
    if row is None:
        raise SourceError("the table does not exist", where=where, fix="correct the declaration in flows/sources")
    if row["kind"] not in ("r", "p"):
        raise SourceError(
            "only tables are in the log, and this is a view or a foreign table",
            where=where,
            fix="declare it in a source without capture",
        )
    if not row["is_published"]:
        raise SourceError(f"publication {capture.names.publication} does not contain the table", where=where, fix=setup)
    if row["is_filtered"]:
        raise SourceError(f"publication {capture.names.publication} filters rows of the table", where=where, fix=setup)
    lacking = [name for name in shape.names if name not in row["published"]] if shape is not None else []
    if lacking:
        raise SourceError(
            f"publication {capture.names.publication} does not contain column {', '.join(lacking)}",
            where=where,
            fix=f"{setup}; columns that are generated and not stored, or before PostgreSQL 18 all generated ones, are "
            "not in the log: name them in exclude",
        )
    identified = row["identified_by"] or []
    if row["identity"] == "n" or [key for key in table.keys if key not in identified]:
        raise SourceError(
            f"updates and deletes of the table carry {', '.join(identified) or 'no column'} in the log, and the "
            f"declared key is {', '.join(table.keys)}",
            where=where,
            fix=f"declare the primary key as key, or run `alter table {table.relation} replica identity full` at the "
            "source",
        )
    return Captured(row["id"], row["publication"], json.loads(row["columns"]))
