"""Whose open transactions keep tables from being changed, and since when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_QUERY = Path(__file__).with_name("blockers.sql")


@dataclass(frozen=True, slots=True)
class Blocker:
    """A session in a transaction: the tables it has locked, such as `gold.mart`, and the sessions that wait for it.

    `state` and `since` are None where the role may not see them: `pg_read_all_stats`.
    """

    session: int
    role: str
    application: str
    state: str | None
    since: datetime | None
    relations: tuple[str, ...]
    waiting: tuple[int, ...]

    def __str__(self) -> str:
        since = f" since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since is not None else ""
        idle = ", idle in transaction" if (self.state or "").startswith("idle in transaction") else ""
        held = ", ".join(self.relations[:3]) + (" …" if len(self.relations) > 3 else "")
        return f"session {self.session} of {self.role} ({self.application}) with {held}{since}{idle}"


async def blockers(connection: Connection[Record], schemas: Sequence[str] | None = None) -> list[Blocker]:
    """Transactions that are idle, or that somebody waits for; with `schemas`, all that use tables of those."""
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
