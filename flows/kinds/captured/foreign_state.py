"""What capture of a MySQL or MariaDB table has at its source."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import md5
from typing import Any

from flows.declare.database import Database
from flows.declare.table import Table
from flows.kinds.captured.foreign_names import (
    VERSION,
    ForeignNames,
    ForeignStatements,
    is_text,
    plain,
    quote,
    recorded,
)
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
_SERVER = """
select cast(version() as char(200)) as v, cast(@@global.read_only as char(10)) as read_only, cast((
    select group_concat(distinct r.delete_rule, '/', r.update_rule order by 1 separator ';')
    from information_schema.referential_constraints as r
    where r.constraint_schema = {schema} and r.table_name = {table}
) as char(1000)) as rules
"""
_KEEPING = ("RESTRICT", "NO ACTION")


@dataclass(frozen=True, slots=True)
class ForeignState:
    """Capture of one table. `problem`: why its changes are not captured. `identity` tells this capture from another,
    and is None if there is a problem. `is_stopped`: there is more than the limit allows. `deletes_unseen`: by
    a foreign key, which fires no trigger."""

    statements: ForeignStatements
    is_there: bool
    has_triggers: bool
    is_stopped: bool
    size: int
    problem: str | None
    identity: dict[str, Any] | None
    deletes_unseen: bool = False


async def look_foreign(reader: Reader, source: Database, table: Table) -> ForeignState:
    """The state of the table's capture. Changes nothing.

    Raises:
        SourceError: the table does not exist, is a view, is not transactional, or its triggers do not see all changes.
        ConfigurationError: the server is read-only.
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
    (row,) = await reader.rows(_SERVER.format(schema=schema, table=dialect.literal(table.at_source)))
    if str(row["read_only"]) not in ("0", "OFF"):
        raise ConfigurationError(
            "the source's URL leads to a server that is read-only, where rows of change tables cannot be deleted",
            where=where,
            fix="name the primary in the source's URL",
        )
    _refuse_unseen(row["rules"], where)
    is_mariadb = "mariadb" in str(row["v"]).lower()
    made = ForeignStatements(
        source.name, names, at_source["in_schema"], table.at_source, keys, declared(source), is_mariadb
    )
    held = [(row["column_name"], row["spelled"]) for row in columns if row["name"] == names.base][4:]
    fits = [name for name, _ in held] == list(table.keys) and all(
        plain(one) in (plain(spelled[name]), recorded(spelled[name])) for name, one in held
    )
    if names.base not in found or not fits:
        has_any = names.base in found
        problem = "the change table has other key columns than the table" if has_any else "there is no change table"
        return ForeignState(made, has_any, False, False, 0, problem, None)
    return await _of_capture(reader, made, found[names.base], where)


def _refuse_unseen(rules: str | None, where: str) -> None:
    """Foreign keys that change rows of the table: InnoDB fires no triggers then. Rows that they delete are noticed.

    Raises:
        SourceError: changes of them would be lost.
    """
    changing = [rule for rule in str(rules or "").split(";") if rule and not _is_seen(*rule.split("/"))]
    if changing:
        on_delete, on_update = changing[0].split("/")
        raise SourceError(
            f"a foreign key of the table has `on delete {on_delete.lower()} on update {on_update.lower()}`, and rows "
            "that it updates fire no trigger in InnoDB",
            where=where,
            fix="make it `on update restrict`, and `on delete restrict` or `cascade`; or declare the table in a source "
            "without capture",
        )


def _is_seen(on_delete: str, on_update: str) -> bool:
    return on_delete in (*_KEEPING, "CASCADE") and on_update in _KEEPING


async def _of_capture(reader: Reader, made: ForeignStatements, changes: dict[str, Any], where: str) -> ForeignState:
    names = made.names
    try:
        (row,) = await reader.rows(
            f"select cast({made.within(names.facts)}() as char(4000)) as facts, "
            f"cast((select max(capture_id) - min(capture_id) from {made.changes}) as signed) as span"
        )
    except SourceError as refused:
        if refused.retryable:
            raise
        said = "the account that reads the source may not read the change table, or a part of capture was dropped"
        return ForeignState(made, True, False, False, changes["size"], said, None)
    facts = {part.split(" ")[0]: part for part in str(row["facts"] or "").split(",") if part}
    rules = facts.pop("rules", "rules ").removeprefix("rules ")
    _refuse_unseen(rules, where)
    bodies = {
        names.trigger(event): md5(body.encode(), usedforsecurity=False).hexdigest()
        for event, body in made.bodies.items()
    }
    has_triggers = set(bodies) <= set(facts)
    version, limit, event = (facts.pop(name, "") for name in ("version", "limit", "event"))
    problem: str | None = None
    if version != f"version {VERSION}":
        problem = "it was set up by an earlier version"
    elif not has_triggers:
        problem = "a trigger was dropped, or never created"
    elif other := [name for name, digest in bodies.items() if not facts[name].endswith(digest)]:
        problem = f"the trigger {other[0]} was changed"
    elif limit != f"limit {made.limit}":
        problem = "the declared limit was changed"
    elif event != "event ENABLED":
        problem = "the event that limits the change table was dropped or disabled"
    return ForeignState(
        made,
        True,
        has_triggers,
        int(row["span"] or 0) > made.limit,
        changes["size"],
        problem,
        None if problem else {"created": changes["created"], **facts},
        "CASCADE/" in rules,
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


def beside_the_table(state: ForeignState, reader: Reader, table: Table) -> tuple[str, str]:
    """SQL: the change table `s` with the table's rows of its keys, and what is true of keys without a row.

    A join, because MariaDB keeps the answers of a subquery by the collation's equality.
    """
    made = state.statements
    relation = reader.dialect.relation(table).removesuffix(" as s")
    same = " and ".join(f"t.{quote(name)} = s.{quote(name)}" for name, _ in made.keys)
    # Keys that a collation holds for equal are others for PostgreSQL.
    for name in (quote(name) for name, spelled in made.keys if is_text(spelled)):
        same += f" and cast(t.{name} as binary) = cast(s.{name} as binary)"
    return f"{made.changes} as s left join {relation} as t on {same}", f"t.{quote(made.keys[0][0])} is null"
