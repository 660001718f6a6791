"""Change tables and triggers at a MySQL or MariaDB source: made, dropped, and shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flows.declare.database import Database
from flows.kinds.answers import Step, TriggeredTable, TriggerStatus
from flows.kinds.captured.foreign_names import ForeignNames, belongs_to, drop, quote
from flows.kinds.captured.foreign_state import look_foreign
from flows.kinds.captured.state import declared
from flows.kinds.databases.connection import Reader
from flows.values.errors import MedallionError, SourceError

_OWNER = "an account with create, trigger, create routine, event, process and grant option on the database"
_ACCOUNTS = (
    "select cast(concat(quote(user), '@', quote(host)) as char(400)) as account from mysql.user where user = {user}"
)
_SQL_MODE = "STRICT_TRANS_TABLES,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION"
_OF_SOURCE = """
select cast(table_schema as char(64)) as in_schema, cast(table_name as char(64)) as name
from information_schema.tables where table_comment = {comment} order by 1, 2
"""
_RIGHTS = """
select cast(concat(quote(user), '@', quote(host)) as char(400)) as account, cast(table_name as char(64)) as name,
    cast(0 as signed) as is_function
from mysql.tables_priv where db = {schema} and table_name in ({names})
union all
select cast(concat(quote(user), '@', quote(host)) as char(400)), cast(routine_name as char(64)), cast(1 as signed)
from mysql.procs_priv where db = {schema} and routine_name in ({names})
"""
_IS_THERE = """
select cast(s.schema_name as char(64)) as in_schema from information_schema.schemata as s
where s.schema_name = {schema} and (
    exists (
        select 1 from information_schema.tables as t where t.table_schema = s.schema_name and t.table_name = '{base}'
    )
    or exists (
        select 1 from information_schema.routines as r
        where r.routine_schema = s.schema_name and r.routine_name = '{facts}'
    )
)
"""


async def missing_steps(reader: Reader, source: Database, user: str) -> list[Step]:
    """What is missing before changes of the tables are captured, in order. `user` reads the source. Changes nothing."""
    steps: list[Step] = []
    accounts = await _accounts(reader, user)
    for table in source.tables:
        state = await look_foreign(reader, source, table)
        made = state.statements
        if state.problem is None:
            continue
        if state.is_there:
            why = f"capture of {table.name} so far is not complete: {state.problem}"
            steps += [Step(sql, why, _OWNER) for sql in drop(made.schema, made.names)]
        steps += [Step(sql, f"records keys of {table.name}", _OWNER) for sql in made.tables()]
        for account in accounts:
            why = "the account that reads the source empties the change table"
            steps += [Step(sql, why, _OWNER) for sql in made.grants(account)]
        # Last: the first trigger begins to record.
        steps += [Step(sql, f"records changes of {table.name}", _OWNER) for sql in made.create_triggers()]
    return steps + await _undeclared(reader, source)


async def undeclared(reader: Reader, source: Database) -> list[tuple[str, ForeignNames]]:
    """What the source's triggers still record of tables that are no longer declared, and in which database."""
    declared = {ForeignNames.of(source.name, table).base for table in source.tables}
    comment = reader.dialect.literal(belongs_to(source.name))
    found = await reader.rows(_OF_SOURCE.format(comment=comment))
    return [(row["in_schema"], ForeignNames(row["name"])) for row in found if row["name"] not in declared]


async def _undeclared(reader: Reader, source: Database) -> list[Step]:
    return [
        step
        for schema, names in await undeclared(reader, source)
        for step in await _drop(reader, schema, names, "its table is no longer declared")
    ]


async def _drop(reader: Reader, schema: str, names: ForeignNames, why: str) -> list[Step]:
    """Rights outlive what they are to, so they are revoked first."""
    literal = reader.dialect.literal
    listed = f"{literal(names.base)}, {literal(names.read)}, {literal(names.facts)}"
    rights = await _unless_refused(reader, _RIGHTS.format(schema=literal(schema), names=listed))
    revoked = [
        f"revoke {'execute on function' if row['is_function'] else 'all privileges on'} "
        f"{quote(schema)}.{quote(row['name'])} from {row['account']}"
        for row in rights
    ]
    return [Step(sql, why, _OWNER) for sql in [*revoked, *drop(schema, names)]]


async def _accounts(reader: Reader, user: str) -> list[str]:
    """The accounts of the user that reads the source, as grants name them."""
    found = await _unless_refused(reader, _ACCOUNTS.format(user=reader.dialect.literal(user)))
    return [row["account"] for row in found] or [f"{reader.dialect.quote(user)}@'%'"]


async def _unless_refused(reader: Reader, query: str) -> list[dict[str, Any]]:
    """The rows of a query that only an administrator may ask; none for others."""
    try:
        return await reader.rows(query)
    except SourceError as problem:
        if problem.retryable:
            raise
        return []


async def set_up(reader: Reader, source: Database, user: str) -> list[Step]:
    """Run what is missing. Stops at the first statement that is refused."""
    return await _run(reader, await missing_steps(reader, source, user))


async def tear_down(reader: Reader, source: Database) -> list[Step]:
    """Drop triggers and change tables, also of tables that are gone or no longer declared. The tables themselves and
    raw stay as they are."""
    steps: list[Step] = []
    for table in source.tables:
        names = ForeignNames.of(source.name, table)
        in_schema = "database()" if table.schema == "public" else reader.dialect.literal(table.schema)
        for row in await reader.rows(_IS_THERE.format(schema=in_schema, base=names.base, facts=names.facts)):
            why = f"nothing of {table.name} is recorded from here on"
            steps += await _drop(reader, row["in_schema"], names, why)
    return await _run(reader, steps + await _undeclared(reader, source))


async def _run(reader: Reader, steps: Sequence[Step]) -> list[Step]:
    done: list[Step] = []
    # A trigger keeps the mode in which it was created, and must record every key that the table has: also zero dates.
    await reader.execute(f"set session lock_wait_timeout = 5, sql_mode = '{_SQL_MODE}'")
    for number, step in enumerate(steps):
        try:
            await reader.execute(step.sql)
        except SourceError as problem:
            return [*done, replace(step, error=problem.what), *steps[number + 1 :]]
        done.append(replace(step, done=True))
    return done


async def capture_status(reader: Reader, source: Database) -> TriggerStatus:
    """What `medallion capture status` shows. Changes nothing."""
    tables = []
    for table in source.tables:
        try:
            state = await look_foreign(reader, source, table)
        except MedallionError as refused:
            if refused.retryable:
                raise
            # The others are shown all the same.
            tables.append(TriggeredTable(table.name, 0, 0, None, refused.what))
            continue
        rows, oldest, problem = 0, None, state.problem
        if state.identity is not None:
            (row,) = await reader.rows(
                "select cast(count(*) as signed) as n, cast(timestampdiff(microsecond, min(capture_at), "
                f"current_timestamp(6)) as signed) as age from {state.statements.changes}"
            )
            rows, oldest = int(row["n"]), None if row["age"] is None else int(row["age"]) / 1e6
        if state.is_stopped and problem is None:
            problem = "larger than max_waiting: the next load reads the table in full"
        tables.append(TriggeredTable(table.name, rows, state.size, oldest, problem))
    for _, names in await undeclared(reader, source):
        tables.append(TriggeredTable(names.base, 0, 0, None, "recorded, and no longer declared"))
    return TriggerStatus(source.name, declared(source).limit, tables)
