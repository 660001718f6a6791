"""Slot and publication of a source: the statements that make them, which of them the role may run, and their end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import asyncpg

from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.answers import Step
from flows.kinds.changelog.capture import Capture, look
from flows.kinds.changelog.slot import create_slot
from flows.values.identifiers import quote_identifier, quote_literal

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_GENERATED_SINCE = 180_000
_PUBLISHED = """
select p.schemaname::text as schema, p.tablename::text as name,
    array(select jsonb_array_elements_text(to_jsonb(p) -> 'attnames')) as columns
from pg_publication_tables as p where p.pubname = $1
"""
_COLUMNS = """
select a.attname::text as name from pg_attribute as a
where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped and a.attgenerated in ('', 's')
order by a.attnum
"""
_HAS_COLUMNS_SINCE = 150_000


async def missing_steps(origin: Connection[Record], source: Database) -> list[Step]:
    """What is missing before changes can be captured, as statements in order; the slot comes last. Changes nothing."""
    capture = await look(origin, source)
    steps = []
    if capture.wal_level != "logical":
        steps.append(
            Step(
                "alter system set wal_level = logical",
                "only then does the log have what is needed to decode rows; the server must be restarted",
                "an administrator",
            )
        )
    if not capture.may_read:
        role = await origin.fetchval("select quote_ident(current_user)")
        steps.append(
            Step(
                f"alter role {role} replication",
                "reading a slot and exporting a snapshot need it; it also allows to copy the whole server",
                "an administrator; on managed servers by their own way: AWS RDS `grant rds_replication to …`",
            )
        )
    steps += await _publication(origin, source, capture)
    if not capture.is_readable:
        if capture.has_slot:
            steps.append(
                Step(
                    f"select pg_drop_replication_slot({quote_literal(capture.names.slot)})",
                    f"the slot has lost its WAL ({capture.lost})",
                    "the role that reads the source",
                )
            )
        steps.append(
            Step(
                f"select pg_create_logical_replication_slot({quote_literal(capture.names.slot)}, 'pgoutput')",
                "from here on the source keeps its WAL until changes are loaded",
                "the role that reads the source",
            )
        )
    return steps


async def _publication(origin: Connection[Record], source: Database, capture: Capture) -> list[Step]:
    name, who = quote_identifier(capture.names.publication), "the owner of the tables, with CREATE on the database"
    wanted = {(table.schema, table.at_source): await _listed(origin, table, capture) for table in source.tables}
    options = "publish_via_partition_root = true"
    if capture.version >= _GENERATED_SINCE:
        options += ", publish_generated_columns = stored"
    if not capture.has_publication:
        listed = ", ".join(wanted.values())
        return [Step(f"create publication {name} for table {listed} with ({options})", "names the tables", who)]
    if capture.problem and "leaves out" in capture.problem:
        options += ", publish = 'insert, update, delete, truncate'"
        return [Step(f"alter publication {name} set ({options})", capture.problem, who)]
    published = {
        (row["schema"], row["name"]): row["columns"]
        for row in await origin.fetch(_PUBLISHED, capture.names.publication)
    }
    steps = []
    for table in source.tables:
        there = published.get((table.schema, table.at_source))
        if there is None:
            listed = wanted[table.schema, table.at_source]
            steps.append(Step(f"alter publication {name} add table {listed}", f"{table.name} is not in it", who))
        elif await _differs(origin, table, capture, there):
            steps.append(
                Step(
                    f"alter publication {name} set table {', '.join(wanted.values())}",
                    f"the columns of {table.name} have changed",
                    who,
                )
            )
            break
    return steps


async def _columns(origin: Connection[Record], table: Table) -> list[str]:
    return [row["name"] for row in await origin.fetch(_COLUMNS, table.catalogued) if table.reads(row["name"])]


async def _listed(origin: Connection[Record], table: Table, capture: Capture) -> str:
    """The table as the publication names it; with its columns if it is declared with some of them."""
    if not (table.columns or table.exclude) or capture.version < _HAS_COLUMNS_SINCE:
        return table.relation
    return f"{table.relation} ({', '.join(quote_identifier(name) for name in await _columns(origin, table))})"


async def _differs(origin: Connection[Record], table: Table, capture: Capture, there: Sequence[str]) -> bool:
    if not (table.columns or table.exclude) or capture.version < _HAS_COLUMNS_SINCE:
        return False
    return set(await _columns(origin, table)) != set(there)


async def set_up(origin: Connection[Record], source: Database) -> list[Step]:
    """Run what is missing, as far as the session's role may. Stops at the first statement that is refused."""
    done: list[Step] = []
    steps = await missing_steps(origin, source)
    for number, step in enumerate(steps):
        try:
            if "pg_create_logical_replication_slot" in step.sql:
                await create_slot(origin, await look(origin, source), f"source {source.name}")
            else:
                async with origin.transaction():
                    await origin.execute("set transaction read write")
                    await origin.execute(step.sql)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.ActiveSQLTransactionError) as problem:
            refused = Step(step.sql, step.why, step.who, error=f"refused ({problem.sqlstate})")
            return [*done, refused, *steps[number + 1 :]]
        done.append(Step(step.sql, step.why, step.who, done=True))
    return done


async def tear_down(origin: Connection[Record], source: Database) -> list[Step]:
    """Drop slot and publication, as far as the session's role may. Tables and raw stay as they are."""
    capture, steps = await look(origin, source), []
    if capture.has_slot:
        slot = quote_literal(capture.names.slot)
        steps.append(
            Step(f"select pg_drop_replication_slot({slot})", "releases the WAL", "the role that reads the source")
        )
    if capture.has_publication:
        name = quote_identifier(capture.names.publication)
        steps.append(Step(f"drop publication {name}", "nothing reads it any more", "the owner of the publication"))
    done = []
    for step in steps:
        try:
            async with origin.transaction():
                await origin.execute("set transaction read write")
                await origin.execute(step.sql)
        except asyncpg.InsufficientPrivilegeError as problem:
            done.append(Step(step.sql, step.why, step.who, error=f"refused ({problem.sqlstate})"))
        else:
            done.append(Step(step.sql, step.why, step.who, done=True))
    return done
