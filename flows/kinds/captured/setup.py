"""Change tables and triggers at a PostgreSQL source: the statements that make them, and their end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import asyncpg

from flows.declare.database import Database
from flows.kinds.answers import Step
from flows.kinds.captured.names import SCHEMA, Names
from flows.kinds.captured.state import State, look
from flows.kinds.captured.statements import belongs_to, drop
from flows.values.identifiers import quote_identifier, quote_literal

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_OWNER = "the owner of the tables"
_CREATOR = "the owner of the tables, with CREATE on the database"
# A trigger waits for writers of its table, and other writers queue behind it.
_WAIT = "set local lock_timeout = '5s'"
# Of an account whose password is rotated there are two: see docs/security.md.
_READERS = "select rolname::text as name from pg_roles where rolname = any($1) and not rolsuper order by 1"
_OF_SOURCE = """
select c.relname::text as base from pg_class as c
where c.relnamespace = to_regnamespace($1) and c.relkind = 'r' and obj_description(c.oid, 'pg_class') = $2
order by 1
"""
_IS_THERE = "select to_regclass($1) is not null or to_regproc($2) is not null"
_CLONE = "_clone"
_REFUSED = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
)


async def missing_steps(origin: Connection[Record], source: Database, reader: str) -> list[Step]:
    """What is missing before changes of the tables are captured, in order. `reader`: the role that reads the source.
    Changes nothing."""
    readers = [row["name"] for row in await origin.fetch(_READERS, _accounts(reader))]
    states = [await look(origin, source, table, reader if reader in readers else None) for table in source.tables]
    steps = []
    if not states[0].has_schema:
        steps.append(Step(f"create schema {SCHEMA}", "has the change tables", _CREATOR))
    for state in states:
        steps += await _of_table(origin, state, readers)
    return steps + await _undeclared(origin, source)


async def undeclared(origin: Connection[Record], source: Database) -> list[Names]:
    """What the source's triggers still record of tables that are no longer declared."""
    declared = {Names.of(source.name, table).base for table in source.tables}
    found = await origin.fetch(_OF_SOURCE, SCHEMA, belongs_to(source.name))
    return [Names(row["base"]) for row in found if row["base"] not in declared]


async def _undeclared(origin: Connection[Record], source: Database) -> list[Step]:
    return [
        Step(sql, "its table is no longer declared", _OWNER)
        for names in await undeclared(origin, source)
        for sql in drop(names)
    ]


def _accounts(reader: str) -> list[str]:
    base = reader.removesuffix(_CLONE)
    return [base, f"{base}{_CLONE}"]


async def _of_table(origin: Connection[Record], state: State, readers: Sequence[str]) -> list[Step]:
    made, steps = state.statements, []
    if state.problem is None:
        return []
    if not state.has_changes:
        steps += [Step(sql, f"what was captured of {made.relation} so far is of another key", _OWNER)
                  for sql in drop(made.names) if await _is_there(origin, state)]  # fmt: skip
        steps += [Step(sql, f"records keys of {made.relation}", _OWNER) for sql in made.change_table()]
    if not (state.has_changes and state.has_function):
        steps.append(Step(made.function(), "what the triggers run", _OWNER))
    if not (state.has_changes and state.has_triggers):
        for event in ("insert", "update", "delete", "truncate", "row"):
            name = made.names.quoted_trigger(event)
            if await _has_trigger(origin, state, made.names.trigger(event)):
                steps.append(Step(f"drop trigger if exists {name} on {made.relation}", "it is created again", _OWNER))
        steps += [Step(sql, f"records changes of {made.relation}", _OWNER) for sql in made.create_triggers()]
        if state.has_changes:
            guard = quote_identifier(f"{made.names.base}__guard")
            steps.append(Step(f"drop trigger if exists {guard} on {made.names.changes}", "it is created again", _OWNER))
            steps.append(Step(made.change_table()[-1], "notices when somebody else removes rows", _OWNER))
    if state.has_changes and not state.has_read:
        steps += [Step(sql, "says which load was the last", _OWNER) for sql in made.read_table()]
        mark = f"comment on table {made.names.changes} is {quote_literal(made.belongs_to)}"
        steps.append(Step(mark, "a table that is no longer declared is found by it", _OWNER))
    for role in map(quote_identifier, readers):
        steps += [
            Step(sql, "the role that reads the source empties the change table", _OWNER)
            for sql in (
                f"grant usage on schema {SCHEMA} to {role}",
                f"grant select, delete, truncate on {made.names.changes} to {role}",
                f"grant select on sequence {made.names.lost} to {role}",
                f"grant select, update on {made.names.read} to {role}",
            )
        ]
    return steps


async def _is_there(origin: Connection[Record], state: State) -> bool:
    return bool(await origin.fetchval("select to_regclass($1) is not null", state.names.changes))


async def _has_trigger(origin: Connection[Record], state: State, name: str) -> bool:
    return bool(
        await origin.fetchval(
            "select exists (select from pg_trigger where tgrelid = $1::bigint::oid and tgname = $2)", state.id, name
        )
    )


async def set_up(origin: Connection[Record], source: Database, reader: str) -> list[Step]:
    """Run what is missing, as far as the session's role may. Stops at the first statement that is refused."""
    return await _run(origin, await missing_steps(origin, source, reader))


async def tear_down(origin: Connection[Record], source: Database) -> list[Step]:
    """Drop triggers, functions and change tables, also of tables that are gone or no longer declared. The tables
    themselves and raw stay as they are."""
    steps = []
    for table in source.tables:
        names = Names.of(source.name, table)
        if await origin.fetchval(_IS_THERE, names.changes, names.function):
            steps += [Step(sql, f"nothing of {table.name} is recorded from here on", _OWNER) for sql in drop(names)]
    steps += await _undeclared(origin, source)
    done = await _run(origin, steps)
    if (
        steps
        and all(step.done for step in done)
        and not await origin.fetchval(
            "select exists (select from pg_class where relnamespace = to_regnamespace($1))", SCHEMA
        )
    ):
        done += await _run(origin, [Step(f"drop schema {SCHEMA}", "nothing is in it any more", _OWNER)])
    return done


async def _run(origin: Connection[Record], steps: Sequence[Step]) -> list[Step]:
    done: list[Step] = []
    for number, step in enumerate(steps):
        try:
            async with origin.transaction():
                await origin.execute(f"set transaction read write; {_WAIT}")
                await origin.execute(step.sql)
        except _REFUSED as problem:
            said = f"refused ({problem.sqlstate})"
            if isinstance(problem, asyncpg.LockNotAvailableError):
                said = "a transaction that has written the table stays open; run it again"
            return [*done, replace(step, error=said), *steps[number + 1 :]]
        done.append(replace(step, done=True))
    return done
