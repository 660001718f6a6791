"""What capture of a PostgreSQL table has at its source: what is missing, and what it can be told by."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.declare.database import Database
from flows.declare.table import Table
from flows.declare.triggers import Triggers
from flows.kinds.captured.names import OWN_COLUMNS, Names
from flows.kinds.captured.statements import KeyColumn, Statements, belongs_to
from flows.values.errors import ConfigurationError, SourceError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_STATE = (Path(__file__).parent / "state.sql").read_text(encoding="utf-8")
_ALL_EVENTS = ("insert", "update", "delete", "truncate", "row")


@dataclass(frozen=True, slots=True)
class State:
    """Capture of one table. `problem`: why its changes are not captured. `identity` tells this capture from one before
    it, or from one that was interrupted; None if there is none. `size`: bytes of the change table. `partitions`: what
    tells the trigger of a partition from one before it, by the partition's oid."""

    statements: Statements
    id: int
    has_schema: bool
    has_changes: bool
    has_function: bool
    has_triggers: bool
    may_read: bool
    size: int
    problem: str | None
    identity: dict[str, Any] | None
    partitions: dict[str, str] = field(default_factory=dict)
    has_read: bool = True
    is_standby: bool = False

    @property
    def names(self) -> Names:
        """The names of what it has."""
        return self.statements.names


def declared(source: Database) -> Triggers:
    """How the source's changes are captured."""
    return source.capture if isinstance(source.capture, Triggers) else Triggers()


async def look(origin: Connection[Record], source: Database, table: Table, reader: str | None = None) -> State:
    """The state of the table's capture; `reader`: the role that reads the source, if not this one. Changes nothing.

    Raises:
        SourceError: the table does not exist, its triggers do not see all of its rows, or it lacks a column of the key.
    """
    where, names = f"{source.name}.{table.name}", Names.of(source.name, table)
    row = await origin.fetchrow(
        _STATE,
        table.catalogued,
        names.changes,
        names.function,
        names.guard,
        names.lost,
        [names.trigger(event) for event in _ALL_EVENTS],
        f"{names.base}__guard",
        reader or await origin.fetchval("select current_user::text"),
        names.read,
        names.trigger("row"),
    )
    if row is None:
        raise SourceError("the table does not exist", where=where, fix="correct the declaration in flows/sources")
    _refuse_unseen(row, where)
    types = {name: KeyColumn(name, exact, wide) for name, wide, exact in json.loads(row["columns"] or "[]")}
    if lacking := [key for key in table.keys if key not in types]:
        raise SourceError(
            f"the declared column {', '.join(lacking)} is not in the table",
            where=where,
            fix="correct the declaration in flows/sources; names are case-sensitive",
        )
    if taken := [key for key in table.keys if key in OWN_COLUMNS]:
        raise SourceError(
            f"change tables have a column {', '.join(taken)} of their own",
            where=where,
            fix="declare another key, or declare the table in a source without capture",
        )
    triggers = declared(source)
    keys = [types[key] for key in table.keys]
    by_row = triggers.per == "row" or row["kind"] == "p" or row["is_subscribed"]
    made = Statements(names, table.relation, keys, triggers, by_row, belongs_to(source.name))
    return _state(row, made)


def _refuse_unseen(row: Record, where: str) -> None:
    """Raises:
    SourceError: rows of the table change without its triggers.
    """
    fix = "declare it in a source without capture"
    if row["kind"] not in ("r", "p"):
        problem = "only tables are captured by triggers, and this is a view or a foreign table"
    elif row["child"] is not None:
        problem = f"{row['child']} inherits from the table, and its changes fire no triggers of the table"
        fix = "declare the table in a source without capture; each table that inherits can be captured separately"
    elif remote := [name for name, kind, *_ in json.loads(row["partitions"] or "{}").values() if kind == "f"]:
        problem = f"the partition {min(remote)} is a foreign table: changes at its own server fire no triggers"
    else:
        return
    raise SourceError(problem, where=where, fix=fix)


def _state(row: Record, made: Statements) -> State:
    names, found = made.names, json.loads(row["triggers"] or "{}")
    wanted = {names.trigger(event): event for event in made.events}
    in_place = all(name in found and found[name][1] for name in wanted) and set(found) == set(wanted)
    stopped = sorted(wanted[name] for name, facts in found.items() if name in wanted and facts[0] != "A")
    held = json.loads(row["change_columns"] or "[]")
    fits = row["changes_id"] is not None and row["counter_id"] is not None and len(held) == len(made.keys)
    # In the table's order, which the key's declaration need not have.
    by_name = {key.name: key for key in made.keys}
    fits = fits and all(name in by_name and type_ in by_name[name].fitting for name, type_ in held)
    parts = json.loads(row["partitions"] or "{}")
    unheard = sorted(name for name, _, is_heard, _ in parts.values() if not is_heard)
    has_function = row["body"] == made.body and row["guard_body"] == made.guard_body
    problem = None
    if row["changes_id"] is None:
        problem = "the change table does not exist"
    elif not fits:
        problem = "the change table has other key columns than the table"
    elif not in_place:
        problem = "a trigger was dropped, or never created"
    elif stopped:
        problem = f"the trigger of {', '.join(stopped)} is disabled"
    elif unheard:
        problem = f"the trigger of the partition {unheard[0]} is disabled or was dropped"
    elif not has_function:
        problem = "a function of the triggers was changed, or the declared limit"
    elif row["guard"] is None:
        problem = "the trigger of the change table was dropped or disabled"
    elif row["read_id"] is None:
        problem = "the table that says which load was the last does not exist"
    elif not row["may_read"]:
        problem = "the role that reads the source may not read and empty the change table"
    identity = None
    if problem is None:
        identity = {
            "changes": row["changes_id"],
            "triggers": {name: found[name][2] for name in sorted(found)},
            "guard": row["guard"],
        }
    return State(
        made,
        row["id"],
        row["has_schema"],
        fits,
        has_function,
        in_place and not stopped and not unheard and row["guard"] is not None,
        row["may_read"],
        row["size"],
        problem,
        identity,
        {oid: mark for oid, (_, _, _, mark) in parts.items()},
        row["read_id"] is not None,
        row["is_standby"],
    )


def refuse_unready(state: State, where: str) -> None:
    """Raises:
    ConfigurationError: changes of the table are not captured, or cannot be deleted where they are read.
    """
    if state.is_standby:
        raise ConfigurationError(
            "the source's URL leads to a standby, where rows of change tables cannot be deleted",
            where=where,
            fix="name the primary in the source's URL",
        )
    if state.problem is not None:
        raise ConfigurationError(
            f"changes are not captured: {state.problem}",
            where=where,
            fix=f"run `medallion capture setup {where.partition('.')[0]}`, as the owner of the tables; the next load "
            "then reads the table in full",
        )
