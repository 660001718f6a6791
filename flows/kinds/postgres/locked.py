"""A table that other sessions at the source lock for longer than a load waits: who they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.declare.table import Table
from flows.kinds.postgres.query_tables import tables_named
from flows.state.blockers import Blocker, ending, in_the_way
from flows.values.errors import SourceUnavailable

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def locked_by_others(origin: Connection[Record], table: Table, where: str) -> SourceUnavailable:
    """The error of a read that waited in vain, on the same session, in no transaction. It names at most five sessions.

    Of a view, sessions with locks on its schema are named, since what it reads is locked as well.
    """
    found: list[Blocker] = []
    for schema, name in [(table.schema, table.at_source)] if not table.query else tables_named(table):
        found += await in_the_way(origin, schema, name) or await in_the_way(origin, schema)
    sessions = list({blocker.session: blocker for blocker in found}.values())
    who = "; ".join(map(str, sessions[:5])) or "by sessions that have just ended, or that our role may not see"
    return SourceUnavailable(
        f"the table at the source is locked (55P03): {who}",
        where=where,
        fix="the load is retried automatically" + (f"; if they do not end: {ending(sessions)}" if sessions else ""),
        retryable=True,
    )
