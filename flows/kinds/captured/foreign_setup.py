"""Change tables and triggers at a MySQL or MariaDB source: made, dropped, and shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flows.declare.database import Database
from flows.kinds.answers import Step, TriggeredTable, TriggerStatus
from flows.kinds.captured.foreign_state import look_foreign
from flows.kinds.captured.state import declared
from flows.kinds.databases.connection import Reader
from flows.values.errors import SourceError

_OWNER = "an account with create, trigger, create routine, event, process and grant option on the database"
_ACCOUNTS = (
    "select cast(concat(quote(user), '@', quote(host)) as char(400)) as account from mysql.user where user = {user}"
)


async def missing_steps(reader: Reader, source: Database, user: str) -> list[Step]:
    """What is missing before changes of the tables are captured, in order. `user` reads the source. Changes nothing."""
    steps = []
    accounts = await _accounts(reader, user)
    for table in source.tables:
        state = await look_foreign(reader, source, table)
        made = state.statements
        if state.problem is None:
            continue
        if state.is_there:
            steps += [Step(sql, f"capture of {table.name} so far is not complete", _OWNER) for sql in made.drop()]
        steps += [Step(sql, f"records keys of {table.name}", _OWNER) for sql in made.tables()]
        for account in accounts:
            why = "the account that reads the source empties the change table"
            steps += [Step(sql, why, _OWNER) for sql in made.grants(account)]
        # Last: the first trigger begins to record.
        steps += [Step(sql, f"records changes of {table.name}", _OWNER) for sql in made.bodies.values()]
    return steps


async def _accounts(reader: Reader, user: str) -> list[str]:
    """The accounts of the user that reads the source, as grants name them."""
    try:
        found = await reader.rows(_ACCOUNTS.format(user=reader.dialect.literal(user)))
    except SourceError as problem:
        if problem.retryable:
            raise
        found = []  # only an administrator sees them
    return [row["account"] for row in found] or [f"{reader.dialect.quote(user)}@'%'"]


async def set_up(reader: Reader, source: Database, user: str) -> list[Step]:
    """Run what is missing. Stops at the first statement that is refused."""
    return await _run(reader, await missing_steps(reader, source, user))


async def tear_down(reader: Reader, source: Database) -> list[Step]:
    """Drop triggers and change tables. The tables themselves and raw stay as they are."""
    steps = []
    for table in source.tables:
        state = await look_foreign(reader, source, table)
        if state.is_there:
            why = f"nothing of {table.name} is recorded from here on"
            steps += [Step(sql, why, _OWNER) for sql in state.statements.drop()]
    return await _run(reader, steps)


async def _run(reader: Reader, steps: Sequence[Step]) -> list[Step]:
    done: list[Step] = []
    await reader.execute("set session lock_wait_timeout = 5")
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
        state = await look_foreign(reader, source, table)
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
    return TriggerStatus(source.name, declared(source).limit, tables)
