"""Open transactions that block changes of tables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from flows.values.errors import LoadLocked

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: The lock modes that block readers of a table. A change of the table waits for every mode.
STOPS_READERS = ("AccessExclusiveLock",)
STOPS_CHANGES = (
    *("AccessShareLock", "RowShareLock", "RowExclusiveLock", "ShareUpdateExclusiveLock", "ShareLock"),
    *("ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"),
)
_IN_THE_WAY = Path(__file__).with_name("in_the_way.sql")
_QUERY = Path(__file__).with_name("blockers.sql")


@dataclass(frozen=True, slots=True)
class Blocker:
    """A session in a transaction: the tables it has locked, such as `gold.mart`, and the sessions that wait for it.

    `state` and `since` are None without the privilege `pg_read_all_stats`. `wanted` is the lock that it waits for
    itself while others queue behind it, such as `AccessExclusiveLock`.
    """

    session: int
    role: str
    application: str
    state: str | None
    since: datetime | None
    relations: tuple[str, ...]
    waiting: tuple[int, ...]
    wanted: str | None = None

    def __str__(self) -> str:
        since = f" since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since is not None else ""
        idle = ", idle in transaction" if (self.state or "").startswith("idle in transaction") else ""
        queued = f", waiting for {self.wanted}" if self.wanted else ""
        held = ", ".join(self.relations[:3]) + (" …" if len(self.relations) > 3 else "")
        return f"session {self.session} of {self.role} ({self.application}) with {held}{since}{idle}{queued}"


async def blockers(connection: Connection[Record], schemas: Sequence[str] | None = None) -> list[Blocker]:
    """Transactions that are idle, or that block others; with `schemas`, all that use tables of those."""
    rows = await connection.fetch(_QUERY.read_text(encoding="utf-8"), list(schemas) if schemas is not None else None)
    return [
        Blocker(
            row["pid"],
            row["role"] or "the server",
            row["application"],
            row["state"],
            row["since"],
            tuple(row["relations"]),
            tuple(row["waiting"]),
        )
        for row in rows
    ]


async def in_the_way(
    connection: Connection[Record], schema: str, table: str | None = None, modes: Sequence[str] = STOPS_READERS
) -> list[Blocker]:
    """Sessions that block the schema's tables, or one of them, with locks of these modes."""
    rows = await connection.fetch(_IN_THE_WAY.read_text(encoding="utf-8"), schema, list(modes), table)
    return [
        Blocker(
            row["pid"],
            row["role"] or "the server",
            row["application"],
            row["state"],
            row["since"],
            tuple(row["relations"]),
            (),
            row["wanted"],
        )
        for row in rows
    ]


def ending(found: Sequence[Blocker]) -> str:
    """SQL that terminates these sessions, to be pasted."""
    return " ".join(f"select pg_terminate_backend({blocker.session});" for blocker in found[:5])


@asynccontextmanager
async def naming_blockers(connection: Connection[Record], schema: str, *, patience_ms: int) -> AsyncIterator[None]:
    """Limit how long statements within wait for a table of the schema. Must not be used in a transaction.

    Raises:
        LoadLocked: a statement timed out; it names the blocking sessions, since when, and how to terminate them.
    """
    await connection.execute("select set_config('lock_timeout', $1, false)", f"{patience_ms}ms")
    try:
        yield
    except asyncpg.LockNotAvailableError:
        found = await in_the_way(connection, schema)
        listed = "; ".join(str(blocker) for blocker in found[:5]) or "by sessions that have just ended"
        raise LoadLocked(
            f"tables of schema {schema} are locked: {listed}",
            where=f"schema {schema}",
            fix=f"wait until it ends, or terminate it as a superuser or its own role: {ending(found)}"
            if found
            else "run it again",
            retryable=True,
        ) from None
