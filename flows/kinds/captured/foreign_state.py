"""What capture of a MySQL or MariaDB table has at its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.captured.foreign_names import ForeignNames, ForeignStatements, quote
from flows.kinds.captured.state import declared
from flows.kinds.databases.connection import Reader
from flows.values.errors import ConfigurationError, SourceError

_TABLES = """
select cast(table_name as char(64)) as name, cast(create_time as char(32)) as created,
    cast(engine as char(64)) as engine,
    cast(table_type as char(64)) as type, cast(table_schema as char(64)) as in_schema,
    cast(coalesce(data_length, 0) as signed) as size
from information_schema.tables where table_schema = {schema} and table_name in ({names})
"""
_COLUMNS = """
select cast(table_name as char(64)) as name, cast(column_name as char(64)) as column_name,
    cast(concat(column_type, coalesce(concat(' character set ', character_set_name, ' collate ', collation_name), ''))
        as char(2000)) as spelled
from information_schema.columns where table_schema = {schema} and table_name in ({names})
order by ordinal_position
"""


@dataclass(frozen=True, slots=True)
class ForeignState:
    """Capture of one table. `problem`: why its changes are not captured. `identity` tells this capture from another,
    and is None if there is a problem. `is_stopped`: there is more than the limit allows."""

    statements: ForeignStatements
    is_there: bool
    has_triggers: bool
    is_stopped: bool
    size: int
    problem: str | None
    identity: dict[str, Any] | None


async def look_foreign(reader: Reader, source: Database, table: Table) -> ForeignState:
    """The state of the table's capture. Changes nothing.

    Raises:
        SourceError: the table does not exist, is a view, or is not transactional.
    """
    where, names, dialect = f"{source.name}.{table.name}", ForeignNames.of(source.name, table), reader.dialect
    schema = "database()" if table.schema == "public" else dialect.literal(table.schema)
    listed = f"{dialect.literal(table.at_source)}, {dialect.literal(names.base)}"
    found = {row["name"]: row for row in await reader.rows(_TABLES.format(schema=schema, names=listed))}
    at_source = found.get(table.at_source)
    if at_source is None:
        raise SourceError("the table does not exist", where=where, fix="correct the declaration in flows/sources")
    if at_source["type"] != "BASE TABLE" or str(at_source["engine"]).lower() != "innodb":
        raise SourceError(
            f"only tables of InnoDB are captured by triggers, and this is {at_source['engine'] or 'a view'}: without "
            "transactions, a change and its record do not commit together",
            where=where,
            fix="declare it in a source without capture",
        )
    columns = await reader.rows(_COLUMNS.format(schema=schema, names=listed))
    spelled = {row["column_name"]: row["spelled"] for row in columns if row["name"] == table.at_source}
    if lacking := [key for key in table.keys if key not in spelled]:
        raise SourceError(
            f"the declared column {', '.join(lacking)} is not in the table",
            where=where,
            fix="correct the declaration in flows/sources; names are case-sensitive",
        )
    keys = [(key, spelled[key]) for key in table.keys]
    (row,) = await reader.rows("select cast(version() as char(200)) as v")
    is_mariadb = "mariadb" in str(row["v"]).lower()
    made = ForeignStatements(names, at_source["in_schema"], table.at_source, keys, declared(source), is_mariadb)
    held = [(row["column_name"], row["spelled"]) for row in columns if row["name"] == names.base][4:]
    if names.base not in found or held != keys:
        has_any = names.base in found
        problem = "the change table has other key columns than the table" if has_any else "there is no change table"
        return ForeignState(made, has_any, False, False, 0, problem, None)
    return await _of_capture(reader, made, found[names.base])


async def _of_capture(reader: Reader, made: ForeignStatements, changes: dict[str, Any]) -> ForeignState:
    names = made.names
    try:
        (row,) = await reader.rows(
            f"select cast({made.within(names.facts)}() as char(2000)) as facts, "
            f"cast((select max(capture_id) - min(capture_id) from {made.changes}) as signed) as span"
        )
    except SourceError as problem:
        if problem.retryable:
            raise
        said = "the account that reads the source may not read the change table, or a part of capture was dropped"
        return ForeignState(made, True, False, False, changes["size"], said, None)
    facts = {part.split(" ")[0]: part for part in str(row["facts"] or "").split(",") if part}
    wanted = {names.trigger(event) for event in made.bodies}
    has_triggers = wanted <= set(facts)
    return ForeignState(
        made,
        True,
        has_triggers,
        int(row["span"] or 0) > made.limit,
        changes["size"],
        None if has_triggers else "a trigger was dropped, or never created",
        {"created": changes["created"], **facts} if has_triggers else None,
    )


def refuse_unready_foreign(state: ForeignState, where: str) -> None:
    """Raises:
    ConfigurationError: changes of the table are not captured.
    """
    if state.problem is not None:
        raise ConfigurationError(
            f"changes are not captured: {state.problem}",
            where=where,
            fix=f"run `medallion capture setup {where.partition('.')[0]}`, as the owner of the tables; the next load "
            "then reads the table in full",
        )


def recorded_foreign(state: ForeignState) -> str:
    """SQL over the table `s`: rows whose key is in the change table."""
    keys = ", ".join(f"s.{quote(name)}" for name, _ in state.statements.keys)
    return f"({keys}) in (select {state.statements.key_list} from {state.statements.changes})"
