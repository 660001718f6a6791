"""The exchange of two colours: readers have one or the other, whole, from one statement to the next.

    release   next__gold → gold → previous__gold → discarded__gold
    rollback  previous__gold ⇄ gold

All renames are one transaction. It holds every table that readers have, exclusively, so no statement and no transaction
that touched one of them spans the exchange. It looks for a moment in which nobody holds any of them, a hundred times a
second, and now and then asks readers to queue: for less than a second, because a reader may hold one table and want
another that we hold, and PostgreSQL ends one of us for it after `deadlock_timeout`, a second as it comes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from flows.models.colours import DISCARDED, NEXT, PREVIOUS, grant_usage, has_readers, label, revoke_usage, schemas_under
from flows.state.blockers import blockers
from flows.values.errors import LoadLocked
from flows.values.identifiers import qualified, quote_identifier

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_PAUSE_SECONDS = (0.002, 0.01)
# To let readers queue helps where queries are long and single; where they take several tables in orders of their own,
# each soon holds one that we want and wants one that we hold. They stand still for so long at most.
_QUEUE_EVERY_SECONDS = 2.0
_QUEUE_MS = 400
_REVOKE_AFTER_SECONDS = 0.1
_ASIDE = "aside__"
_VIEWS = {"v": "view", "m": "materialized view"}

_RELATIONS = """
select n.nspname as schema, c.relname as name, c.relkind::text as kind, pg_get_userbyid(c.relowner) as owner
from pg_class as c inner join pg_namespace as n on c.relnamespace = n.oid
where n.nspname = any($1) and c.relkind in ('r', 'p', 'm', 'v') and not c.relispartition
    and pg_has_role(c.relowner, 'usage')
order by n.nspname, c.relname
"""


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What was exchanged: schemas by their shared names, attempts it took, seconds for which readers stood still."""

    schemas: tuple[str, ...]
    attempts: int
    seconds: float


def _nothing(_place: str) -> None:
    """No failpoint."""


async def release(
    connection: Connection[Record],
    schemas: Sequence[str],
    facts: Mapping[str, Any],
    *,
    wait_seconds: float,
    pass_failpoint: Callable[[str], None] = _nothing,
) -> Exchanged:
    """Make what stands under `next__` what readers have. A shared schema of `schemas` that it lacks goes as well.

    `facts` are written onto the new schemas.

    Raises:
        LoadLocked: readers held tables all the while we waited. Nothing was changed.
    """
    incoming = set(await schemas_under(connection, NEXT))
    shared = {name for name in schemas if await _there(connection, name)} | {
        name for name in incoming if await _there(connection, name)
    }
    former = set(await schemas_under(connection, PREVIOUS))
    renames = [(PREVIOUS + name, DISCARDED + name) for name in sorted(former)]
    renames += [(name, PREVIOUS + name) for name in sorted(shared)]
    renames += [(NEXT + name, name) for name in sorted(incoming)]
    moves = [(name, NEXT + name) for name in sorted(shared & incoming)]
    labels = {name: dict(facts) for name in sorted(incoming)}
    return await _exchange(connection, sorted(shared), moves, renames, labels, wait_seconds, pass_failpoint)


async def roll_back(
    connection: Connection[Record],
    *,
    wait_seconds: float,
    pass_failpoint: Callable[[str], None] = _nothing,
) -> Exchanged:
    """Give readers what stands under `previous__`; what they had takes its place, so that there is a way forward.

    Raises:
        LoadLocked: readers held tables all the while we waited. Nothing was changed.
    """
    former = await schemas_under(connection, PREVIOUS)
    shared = [name for name in former if await _there(connection, name)]
    renames = [(name, _ASIDE + name) for name in shared]
    renames += [(PREVIOUS + name, name) for name in former]
    renames += [(_ASIDE + name, PREVIOUS + name) for name in shared]
    moves = [(name, PREVIOUS + name) for name in shared]
    return await _exchange(connection, shared, moves, renames, {}, wait_seconds, pass_failpoint)


async def _exchange(
    connection: Connection[Record],
    held: Sequence[str],
    moves: Sequence[tuple[str, str]],
    renames: Sequence[tuple[str, str]],
    labels: Mapping[str, Mapping[str, Any]],
    wait_seconds: float,
    pass_failpoint: Callable[[str], None],
) -> Exchanged:
    until = time.monotonic() + wait_seconds
    queue_at = time.monotonic() + _QUEUE_EVERY_SECONDS
    statements = await _locks(connection, [schema for schema in held if await has_readers(connection, schema)])
    attempts = 0
    while True:
        attempts += 1
        began = time.monotonic()
        queues = began >= queue_at
        try:
            async with connection.transaction():
                await _hold(connection, statements, _QUEUE_MS if queues else 1)
                pass_failpoint("in_exchange_after_locks")
                for out, into in moves:
                    await grant_usage(connection, out, into)
                for old, new in renames:
                    await connection.execute(f"alter schema {quote_identifier(old)} rename to {quote_identifier(new)}")
                for schema, facts in labels.items():
                    await label(connection, schema, facts)
                pass_failpoint("in_exchange_before_commit")
        except (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if time.monotonic() >= until:
                raise await _held_by_readers(connection, held) from None
            queue_at = time.monotonic() + _QUEUE_EVERY_SECONDS if queues else queue_at
            await asyncio.sleep(random.uniform(*_PAUSE_SECONDS))  # noqa: S311 # nosec B311 - a pause, no secret
            continue
        seconds = time.monotonic() - began
        pass_failpoint("after_exchange")
        # Only now: a statement that had looked up `gold` a moment before asks for its right on what it found.
        await asyncio.sleep(_REVOKE_AFTER_SECONDS)
        for out, _ in moves:
            await revoke_usage(connection, PREVIOUS + out)
        names = sorted({new for _, new in renames if not new.startswith((PREVIOUS, DISCARDED, _ASIDE))})
        return Exchanged(tuple(names), attempts, seconds)


async def _locks(connection: Connection[Record], schemas: Sequence[str]) -> list[str]:
    """The statements that take every table and view of the schemas exclusively."""
    found = await connection.fetch(_RELATIONS, list(schemas))
    tables = [qualified(row["schema"], row["name"]) for row in found if row["kind"] not in _VIEWS]
    # LOCK takes no materialized view, and of a view also what it reads, raw among it, which is not ours: changing its
    # owner to who it is locks the view alone.
    views = [
        f"alter {_VIEWS[row['kind']]} {qualified(row['schema'], row['name'])} owner to {quote_identifier(row['owner'])}"
        for row in found
        if row["kind"] in _VIEWS
    ]
    return [*([f"lock table {', '.join(tables)} in access exclusive mode"] if tables else []), *views]


async def _hold(connection: Connection[Record], statements: Sequence[str], patience_ms: int) -> None:
    """Run the statements, none waiting for longer than so many milliseconds, nor all of them together much longer."""
    until = time.monotonic() + patience_ms / 1000
    for statement in statements:
        left = max(1, int((until - time.monotonic()) * 1000))
        await connection.execute(f"set local lock_timeout = '{left}ms'")
        await connection.execute(statement)


async def _held_by_readers(connection: Connection[Record], schemas: Sequence[str]) -> LoadLocked:
    listed = "; ".join(str(blocker) for blocker in (await blockers(connection, schemas))[:5])
    return LoadLocked(
        f"tables that readers have were in use all the while{f': {listed}' if listed else ''}",
        where="exchange of the models' schemas",
        fix="nothing was changed; let their transactions end, or end them, and run it again",
        retryable=True,
    )


async def _there(connection: Connection[Record], schema: str) -> bool:
    return bool(await connection.fetchval("select to_regnamespace($1) is not null", quote_identifier(schema)))
