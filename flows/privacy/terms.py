"""Rows past their retention period, counted and deleted in separately committed batches."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from flows.declare.retention import Keep
from flows.privacy.places import Place
from flows.values.identifiers import quote_identifier

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Rows per transaction: short enough not to block others.
BATCH_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Overdue:
    """Rows of one table past its retention period: those before `older_than`."""

    place: Place
    keep: Keep
    older_than: datetime
    rows: int


async def overdue(connection: Connection[Record], places: list[Place], terms: tuple[Keep, ...]) -> list[Overdue]:
    """Rows past their retention period in the given tables, by the warehouse's clock."""
    found = []
    for keep in terms:
        for place in places:
            needed = {keep.by, *keep.clears}
            if not fnmatchcase(place.told, keep.place) or not needed <= set(place.columns) or place.derived:
                continue
            before = await connection.fetchval("select now() - make_interval(days => $1)", keep.days)
            rows = await connection.fetchval(f"select count(*) from {place.relation} where {_beyond(keep)}", before)
            found += [Overdue(place, keep, before, rows)] if rows else []
    return found


async def delete_batch(connection: Connection[Record], line: Overdue, batch_rows: int = BATCH_ROWS) -> int:
    """Delete or clear up to a batch of them; returns their number. Within the caller's transaction, if there is one."""
    status = await connection.execute(
        # The condition is repeated outside: two partitions of a table may have rows with the same ctid.
        f"{_removal(line)} where {_beyond(line.keep)} and ctid = any(array("
        f"select ctid from {line.place.relation} where {_beyond(line.keep)} limit {batch_rows}))",
        line.older_than,
    )
    return int(status.rsplit(" ", 1)[-1])


async def write_down(connection: Connection[Record], place: str, older_than: datetime, rows: int) -> None:
    """One row of ops.retentions."""
    await connection.execute(
        "insert into ops.retentions (place, older_than, rows) values ($1, $2, $3)", place, older_than, rows
    )


def _removal(line: Overdue) -> str:
    if not line.keep.clears:
        return f"delete from {line.place.relation}"
    cleared = ", ".join(f"{quote_identifier(name)} = null" for name in line.keep.clears)
    return f"update {line.place.relation} set {cleared}"


def _beyond(keep: Keep) -> str:
    due = f"{quote_identifier(keep.by)} < $1 and ({keep.condition})"
    if not keep.clears:
        return due
    left = " or ".join(f"{quote_identifier(name)} is not null" for name in keep.clears)
    return f"{due} and ({left})"
