"""Transactions that read a source table: its lock first, then the snapshot.

A statement's snapshot is taken before it waits for a lock. A read that waits behind a rewrite (`truncate` and load
again, `alter table … type`, `refresh materialized view`) would then see an empty table. So the lock is the first
statement of each transaction that reads, and the table is described once more under it: COPY's bytes mean what the
columns' types were when they were sent.

PostgreSQL has no LOCK for materialized views and foreign tables, and none for roles that may read only some columns.
There, a second session selects from the table first, which locks it and what it reads from; it ends when the reading
transaction has done the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from flows.access.addresses import connect
from flows.access.sessions import lock_timeout, pinned
from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.postgres.locked import locked_by_others
from flows.kinds.postgres.masks import give_key
from flows.kinds.postgres.queries import REFUSED, lock_foreign, note_locked, refused_query
from flows.kinds.postgres.table import describe
from flows.values.connection import DatabaseConnection
from flows.values.errors import SourceUnavailable
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# A schema change that waits for our own first session makes the second one wait for it: a circle that PostgreSQL
# cannot see. The load is then tried again.
_CIRCLE_ENDS_AFTER = "set local lock_timeout = '10s'"

_SNAPSHOT = "begin isolation level repeatable read read only"
_EACH_STATEMENT = "begin isolation level read committed read only"

# LOCK on a view locks the tables below it, except materialized views and foreign tables.
_RELATION = """
with recursive below as (
    select c.oid, c.relkind from pg_class as c where c.oid = to_regclass($1)
    union
    select c.oid, c.relkind
    from below
    inner join pg_rewrite as r on below.oid = r.ev_class
    inner join pg_depend as d on r.oid = d.objid and d.classid = 'pg_rewrite'::regclass
    inner join pg_class as c on d.refobjid = c.oid and d.refclassid = 'pg_class'::regclass
    where below.relkind = 'v'
)
select
    (select c.relkind::text from pg_class as c where c.oid = to_regclass($1)) as kind,
    coalesce(bool_and(relkind in ('r', 'p', 'v', 'S')), false) as lockable
from below
where relkind not in ('i', 'I', 't', 'c')
"""


@dataclass(frozen=True, slots=True)
class _Relation:
    """How to lock the table in a transaction: by LOCK if it is `lockable`, else by `select`; and whether it is."""

    select: str
    lockable: bool
    is_locked: bool = False


async def start_reading(
    origin: Connection[Record],
    address: DatabaseConnection,
    source: Database,
    table: Table,
    expected: Shape | None = None,
) -> Shape:
    """Begin the transaction that reads the table: locked, then in one snapshot. Returns the table's columns under it.

    `expected`: the columns with which the read was planned. `address` opens the second session, if one is needed.

    Raises:
        SourceUnavailable: the columns have changed since.
        SourceError: see `describe`.
    """
    begin = f"{_SNAPSHOT}; {_pinned(origin, source, table)}"
    relation = await _locked(origin, begin, source, table)
    if not relation.is_locked:
        application = f"medallion read {source.name}.{table.name}"
        async with connect(address, side="source", application=application) as beside:
            await _begin_by_select(
                beside, f"{_EACH_STATEMENT}; {_pinned(beside, source, table)}", relation, source, table
            )
            await _begin_by_select(origin, f"{begin}; {_CIRCLE_ENDS_AFTER}", relation, source, table)
        await origin.execute(f"set local lock_timeout = {lock_timeout()}")
    await _prepare(origin, table)
    return await _described(origin, source, table, expected)


async def join_reading(
    origin: Connection[Record],
    source: Database,
    table: Table,
    snapshot: str | Callable[[], Awaitable[str]],
    expected: Shape | None = None,
) -> Shape:
    """Begin a transaction in the snapshot that another session, which has the table's lock, has exported; or that is
    exported when this transaction has the lock.

    Raises:
        SourceUnavailable: the other session has ended, or the columns have changed.
    """
    begin = f"{_SNAPSHOT}; {_pinned(origin, source, table)}; {_CIRCLE_ENDS_AFTER}"
    relation = await _relation(origin, source, table)
    locked = await _lock(origin, begin, source, table) if relation.lockable else False
    if not locked:
        await origin.execute(begin)
    if not isinstance(snapshot, str):
        snapshot = await snapshot()
    try:
        await origin.execute(f"set transaction snapshot '{snapshot}'")
    except (
        asyncpg.InvalidParameterValueError,
        asyncpg.UndefinedObjectError,
        asyncpg.ObjectNotInPrerequisiteStateError,  # its holder is ending: the name still exists, not the session
    ):
        raise SourceUnavailable(
            "the snapshot of all chunks was lost with the connection that held it",
            where=f"{source.name}.{table.name}",
            fix="the load is retried automatically, from the last committed chunk",
            retryable=True,
        ) from None
    if not locked:
        await origin.fetch(relation.select)  # prepared: of several statements, none runs
    await _prepare(origin, table)
    return await _described(origin, source, table, expected)


async def stop_reading(origin: Connection[Record]) -> None:
    """End the transaction, so that the table's lock is released; nothing if there is none."""
    if not origin.is_closed() and origin.is_in_transaction():
        await origin.execute("rollback")


@contextlib.asynccontextmanager
async def settled(origin: Connection[Record], source: Database, table: Table) -> AsyncIterator[None]:
    """A short transaction for the questions before a read: the table is locked, and each statement has a new snapshot.

    So an answer is about the table after a rewrite that was under way, and the sessions seen are those of now.
    """
    begin = f"{_EACH_STATEMENT}; {_pinned(origin, source, table)}"
    relation = await _locked(origin, begin, source, table)
    if not relation.is_locked:
        await _begin_by_select(origin, begin, relation, source, table)
    try:
        await _prepare(origin, table)
        yield
    except Exception:
        with contextlib.suppress(Exception):  # the first error counts
            await stop_reading(origin)
        raise
    await stop_reading(origin)


def _pinned(origin: Connection[Record], source: Database, table: Table) -> str:
    return pinned(origin, f"medallion read {source.name}.{table.name}", sees_a_part=table.sees_a_part)


async def _locked(origin: Connection[Record], begin: str, source: Database, table: Table) -> _Relation:
    """Begin with the table's lock, if that is possible; nothing is begun if it is not.

    Whether LOCK locks all that is read is asked under the lock: for a table, which nearly all are, it does, and asked
    in a transaction of its own before, the answer may be out of date.

    Raises:
        SourceError: the table does not exist.
    """
    if not table.query and await _lock(origin, begin, source, table):
        found = await origin.fetchrow(_RELATION, table.catalogued)
        if found is not None and found["lockable"]:
            return _Relation("", lockable=True, is_locked=True)
        await stop_reading(origin)
    return await _relation(origin, source, table)


async def _relation(origin: Connection[Record], source: Database, table: Table) -> _Relation:
    """Raises: SourceError: the table does not exist."""
    if table.query:
        return _Relation(f"select 1 from {table.relation} limit 0", lockable=False)
    async with origin.transaction(isolation="read_committed", readonly=True):
        found = await origin.fetchrow(_RELATION, table.catalogued)
        if found is None or found["kind"] is None:
            await describe(origin, source.name, source.raw_schema, table)  # refuses it, with a fix
    assert found is not None  # a select of aggregates always answers one row
    # Rows of a foreign table: only a read reaches its server, and locks the table there.
    rows = 1 if found["kind"] == "f" else 0
    return _Relation(f"select 1 from {table.relation} limit {rows}", lockable=found["lockable"])


async def _lock(origin: Connection[Record], begin: str, source: Database, table: Table) -> bool:
    """Begin with LOCK; False if PostgreSQL refuses it, and nothing is begun.

    Raises:
        SourceUnavailable: another session kept the table locked. It is named.
    """
    try:
        await origin.execute(f"{begin}; lock table {table.relation} in access share mode")
    except (
        asyncpg.InsufficientPrivilegeError,
        asyncpg.WrongObjectTypeError,
        asyncpg.FeatureNotSupportedError,
        asyncpg.UndefinedTableError,
        asyncpg.InvalidSchemaNameError,
    ):
        # LOCK needs select on all columns; before PostgreSQL 11, it refused views.
        await stop_reading(origin)
        return False
    except asyncpg.LockNotAvailableError:
        await stop_reading(origin)
        raise await locked_by_others(origin, table, f"{source.name}.{table.name}") from None
    return True


async def _begin_by_select(
    origin: Connection[Record], begin: str, relation: _Relation, source: Database, table: Table
) -> None:
    await origin.execute(begin)
    try:
        await origin.fetch(relation.select)  # prepared: of several statements, none runs
        await lock_foreign(origin, table)
    except asyncpg.InsufficientPrivilegeError:
        await stop_reading(origin)
        await describe(origin, source.name, source.raw_schema, table)  # names the columns, if only some are refused
        raise
    except asyncpg.LockNotAvailableError:
        await stop_reading(origin)
        raise await locked_by_others(origin, table, f"{source.name}.{table.name}") from None
    except REFUSED as problem:
        if not table.query:
            raise
        raise refused_query(problem, f"{source.name}.{table.name}") from None


async def _prepare(origin: Connection[Record], table: Table) -> None:
    """In the transaction that reads, once everything is locked."""
    await note_locked(origin, table)
    await give_key(origin, table)


async def _described(origin: Connection[Record], source: Database, table: Table, expected: Shape | None) -> Shape:
    shape = await describe(origin, source.name, source.raw_schema, table)
    if expected is not None and shape.columns != expected.columns:
        names = sorted({column.name for column in {*shape.columns} ^ {*expected.columns}})
        raise SourceUnavailable(
            f"columns of the table changed while the load began: {', '.join(names) or 'their order'}",
            where=f"{source.name}.{table.name}",
            fix="the load is retried automatically, and planned again; nothing was read with the old columns",
            retryable=True,
        )
    return shape
