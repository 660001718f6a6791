"""The blue-green swap: readers see the old or the new release, never a mix.

    release   next__gold → gold → previous__gold → discarded__gold
    rollback  previous__gold ⇄ gold

All renames are one transaction. It locks every table of readers exclusively, so that no statement or transaction that
reads one of them spans the swap. It tries to get all locks without waiting, a hundred times per second, and from time
to time makes readers queue: for less than a second, because a reader may hold one table and wait for another that the
swap holds, and PostgreSQL then aborts one of them after `deadlock_timeout`, one second by default. One deadline holds
for all that happens from the first lock to the commit, however many tables there are.

Relations get the permissions of those that they replace before the locks are taken; under them it is compared whether
anybody has changed any since.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from flows.models import permissions
from flows.models.shadow import DISCARDED, NEXT, PREVIOUS, grant_usage, has_readers, label, revoke_usage, schemas_under
from flows.state.blockers import blockers
from flows.values.errors import LoadLocked
from flows.values.identifiers import qualified, quote_identifier

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_PAUSE_SECONDS = (0.002, 0.01)
# Queueing helps with long single-table queries; with queries that lock several tables in different orders, each soon
# holds a table that the swap needs and waits for one that it holds. Readers are blocked for at most this long.
_QUEUE_EVERY_SECONDS = 2.0
_DEADLINE_SECONDS = 0.4
# Of these, the longest wait for locks; comparing permissions and renaming takes some 20 ms for 80 tables.
_QUEUE_SECONDS = 0.25
_NO_QUEUE_SECONDS = 0.001
_LOCKING_SECONDS = 0.05
# Permissions that others change again and again.
_MOST_CHANGES = 5
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


class _PermissionsChanged(Exception):
    """Somebody has granted or revoked something since the successors got what their predecessors had."""


@dataclass(frozen=True, slots=True)
class Swapped:
    """The swap's result: schemas by their shared names, attempts, seconds for which readers were blocked."""

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
) -> Swapped:
    """Swap the `next__` schemas into place. Shared schemas of `schemas` without a counterpart are retired as well.

    `facts` are written into the new schemas' comments.

    Raises:
        LoadLocked: readers locked tables during the full wait. Nothing was changed.
        ConfigurationError: readers would have other permissions than before.
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
    for name, new in moves:
        # New tables were made under those of the beginning.
        if await permissions.defaults_differ(connection, name, new):
            raise permissions.refuse([f"{name}: its default privileges were changed during the build"])
    return await _swap(connection, sorted(shared), moves, renames, labels, wait_seconds, pass_failpoint)


async def roll_back(
    connection: Connection[Record],
    *,
    wait_seconds: float,
    pass_failpoint: Callable[[str], None] = _nothing,
) -> Swapped:
    """Swap the `previous__` schemas into place; the current ones take their place, for a roll forward.

    Raises:
        LoadLocked: readers locked tables during the full wait. Nothing was changed.
        ConfigurationError: readers would have other permissions than before.
    """
    former = await schemas_under(connection, PREVIOUS)
    shared = [name for name in former if await _there(connection, name)]
    renames = [(name, _ASIDE + name) for name in shared]
    renames += [(PREVIOUS + name, name) for name in former]
    renames += [(_ASIDE + name, PREVIOUS + name) for name in shared]
    moves = [(name, PREVIOUS + name) for name in shared]
    for name, new in moves:
        await permissions.keep_defaults(connection, name, new)
    return await _swap(connection, shared, moves, renames, {}, wait_seconds, pass_failpoint)


async def _swap(
    connection: Connection[Record],
    held: Sequence[str],
    moves: Sequence[tuple[str, str]],
    renames: Sequence[tuple[str, str]],
    labels: Mapping[str, Mapping[str, Any]],
    wait_seconds: float,
    pass_failpoint: Callable[[str], None],
) -> Swapped:
    until = time.monotonic() + wait_seconds
    queue_at = time.monotonic() + _QUEUE_EVERY_SECONDS
    statements = await _locks(connection, [schema for schema in held if await has_readers(connection, schema)])
    attempts = changes = 0
    await permissions.keep(connection, moves)
    while True:
        attempts += 1
        began = time.monotonic()
        queues = began >= queue_at
        try:
            async with connection.transaction():
                await _hold(connection, statements, _QUEUE_SECONDS if queues else _NO_QUEUE_SECONDS)
                pass_failpoint("in_swap_after_locks")
                await _limit(connection, began + _DEADLINE_SECONDS)
                if differing := await permissions.differences(connection, moves):
                    raise _PermissionsChanged
                for out, into in moves:
                    await grant_usage(connection, out, into)
                for old, new in renames:
                    await connection.execute(f"alter schema {quote_identifier(old)} rename to {quote_identifier(new)}")
                await _limit(connection, began + _DEADLINE_SECONDS)
                for schema, facts in labels.items():
                    await label(connection, schema, facts)
                pass_failpoint("in_swap_before_commit")
        except _PermissionsChanged:
            changes += 1
            if changes >= _MOST_CHANGES:
                raise permissions.refuse(differing) from None
            await permissions.keep(connection, moves)
            continue
        except (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if time.monotonic() >= until:
                raise await _held_by_readers(connection, held) from None
            queue_at = time.monotonic() + _QUEUE_EVERY_SECONDS if queues else queue_at
            await asyncio.sleep(random.uniform(*_PAUSE_SECONDS))  # noqa: S311 # nosec B311 - a pause, no secret
            continue
        seconds = time.monotonic() - began
        pass_failpoint("after_swap")
        # Only now: a statement that has already resolved `gold` still needs its privilege on that schema.
        await asyncio.sleep(_REVOKE_AFTER_SECONDS)
        for out, _ in moves:
            await revoke_usage(connection, PREVIOUS + out)
        names = sorted({new for _, new in renames if not new.startswith((PREVIOUS, DISCARDED, _ASIDE))})
        return Swapped(tuple(names), attempts, seconds)


async def _locks(connection: Connection[Record], schemas: Sequence[str]) -> list[str]:
    """The statements that lock every table and view of the schemas exclusively."""
    found = await connection.fetch(_RELATIONS, list(schemas))
    tables = [qualified(row["schema"], row["name"]) for row in found if row["kind"] not in _VIEWS]
    # LOCK does not support materialized views, and for a view also locks what it reads, including raw, which the role
    # does not own: setting the owner to the same role locks only the view.
    views = [
        f"alter {_VIEWS[row['kind']]} {qualified(row['schema'], row['name'])} owner to {quote_identifier(row['owner'])}"
        for row in found
        if row["kind"] in _VIEWS
    ]
    return [*([f"lock table {', '.join(tables)} in access exclusive mode"] if tables else []), *views]


async def _hold(connection: Connection[Record], statements: Sequence[str], patience_seconds: float) -> None:
    """Run the statements, which together wait at most so many seconds.

    `lock_timeout` is a limit for each lock: one statement that locks eighty tables could wait eighty times as long.
    """
    until = time.monotonic() + patience_seconds
    for statement in statements:
        left = max(1, int((until - time.monotonic()) * 1000))
        await connection.execute(f"set local lock_timeout = '{left}ms'")
        # A statement that waits for nobody still takes its time: a hundred tables some milliseconds.
        await _limit(connection, max(until, time.monotonic() + _LOCKING_SECONDS))
        await connection.execute(statement)


async def _limit(connection: Connection[Record], until: float) -> None:
    """Have the server cancel statements of this transaction that would last past this moment (of time.monotonic)."""
    left = max(1, int((until - time.monotonic()) * 1000))
    await connection.execute(f"set local statement_timeout = '{left}ms'")


async def _held_by_readers(connection: Connection[Record], schemas: Sequence[str]) -> LoadLocked:
    listed = "; ".join(str(blocker) for blocker in (await blockers(connection, schemas))[:5])
    return LoadLocked(
        f"tables of readers were locked throughout{f': {listed}' if listed else ''}",
        where="swap of the models' schemas",
        fix="nothing was changed; wait until their transactions end, or end them, and run again",
        retryable=True,
    )


async def _there(connection: Connection[Record], schema: str) -> bool:
    return bool(await connection.fetchval("select to_regnamespace($1) is not null", quote_identifier(schema)))
