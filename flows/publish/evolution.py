"""Differences between the source's and raw's columns, including columns that were dropped for a while."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from flows.declare.table import OnDrift, Table
from flows.landing.drift import PREFIX
from flows.landing.table import SchemaChange, Target, compare, differences, retyped, views_on
from flows.publish.session import LoadSession
from flows.quality.open_rows import open_rules
from flows.state import schema_changes
from flows.state.schema_changes import dropped_columns
from flows.values.asking import refuse
from flows.values.errors import DataRefused, SchemaDrift
from flows.values.question import Question
from flows.values.shape import Shape
from flows.values.widening import widens

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def changes_since(
    warehouse: Connection[Record],
    target: Target,
    shape: Shape,
    raw: dict[str, str] | None,
    on_drift: OnDrift = "evolve",
    gone: Collection[str] | None = None,
) -> list[SchemaChange]:
    """The allowed changes of columns; none before the first load. `gone`: the `dropped_columns`, if they are known.

    Raises:
        SchemaDrift: a change must not be applied to raw; the error's `changes` lists them.
    """
    if raw is None:
        return []
    changes = await _changes(warehouse, target, shape, raw, gone)
    if on_drift != "evolve" and changes:
        _ask(_frozen(changes, target.where), changes)
    for change in changes:
        if change.change == "retyped":
            if not widens(str(change.old_type), str(change.new_type)):
                _refuse(retyped(change, target.where), [change])
            if views := await views_on(warehouse, target, change.column):
                _refuse(_in_use(change, views, target.where), [change])
    return changes


async def drift_since(
    warehouse: Connection[Record],
    target: Target,
    shape: Shape,
    raw: dict[str, str] | None,
    table: Table,
    gone: Collection[str] | None = None,
) -> tuple[list[SchemaChange], list[SchemaChange]]:
    """The changes of columns: those to apply to raw, and those held back, so that rows which do not fit are
    quarantined.

    Raises:
        SchemaDrift: a change can neither be applied to raw nor held back.
    """
    if table.on_drift != "quarantine" or raw is None:
        return await changes_since(warehouse, target, shape, raw, table.on_drift, gone), []
    changes = await _changes(warehouse, target, shape, raw, gone, held=True)
    _refuse_needed(changes, table, target.where)
    taken = [change for change in changes if change.change == "returned"]
    return taken, [change for change in changes if change.change != "returned"]


async def _changes(
    warehouse: Connection[Record],
    target: Target,
    shape: Shape,
    raw: dict[str, str],
    gone: Collection[str] | None,
    *,
    held: bool = False,
) -> list[SchemaChange]:
    if gone is None:
        gone = await dropped_columns(warehouse, target.source, target.table, held=held)
    return differences(shape, raw) + [
        SchemaChange(column.name, "returned", column.raw_type, column.raw_type)
        for column in shape.columns
        if column.name in gone and column.name in raw
    ]


def beside_scheduled_loads(
    shape: Shape, raw: dict[str, str], table: Table, where: str
) -> tuple[Shape, list[SchemaChange]]:
    """The columns that a repair or a backfill reads, without changing raw's columns; and the changes held back.

    Raises:
        SchemaDrift: a column now has another type, and rows that do not fit must not be quarantined.
    """
    if table.on_drift == "quarantine":
        held = differences(shape, raw)
        _refuse_needed(held, table, where)
        return shape, held
    compare(shape, raw, where)
    # A new column is added by the next scheduled load, which then also reads its values in other rows.
    return replace(shape, columns=tuple(column for column in shape.columns if column.name in raw)), []


def _refuse_needed(changes: list[SchemaChange], table: Table, where: str) -> None:
    """Rows are matched, found and counted by these columns, so they must exist."""
    for change in changes:
        if change.change == "retyped" and change.column in table.named_columns:
            _refuse(retyped(change, where), [change])


def _refuse(error: SchemaDrift, changes: list[SchemaChange]) -> NoReturn:
    error.__dict__["changes"] = [(one.column, one.change, one.old_type, one.new_type) for one in changes]
    raise error


def _ask(error: SchemaDrift, changes: list[SchemaChange]) -> None:
    """Refuse the changes, unless a person has accepted exactly these. Those that could alter values are not asked
    about: nobody can accept them."""
    listed = [(one.column, one.change, one.old_type, one.new_type) for one in changes]
    lossy = [one for one in changes if one.change == "retyped" and not widens(str(one.old_type), str(one.new_type))]
    if lossy:
        _refuse(error, changes)
    try:
        refuse(error, Question("columns", {"changes": [[str(part or "") for part in one] for one in listed]}))
    except DataRefused as refused:
        refused.__dict__["changes"] = listed
        raise


def _frozen(changes: list[SchemaChange], where: str) -> SchemaDrift:
    listed = ", ".join(f"{change.column} {change.change}" for change in changes)
    return SchemaDrift(
        f"the table's columns are frozen, and they changed at the source: {listed}",
        where=where,
        fix='accept the change with on_drift="evolve", or change the columns of raw (drop a dropped column in raw)',
    )


def _in_use(change: SchemaChange, views: list[str], where: str) -> SchemaDrift:
    return SchemaDrift(
        f"column {change.column} is now {change.new_type} at the source and {change.old_type} in raw; every value "
        f"fits, but PostgreSQL cannot change the type of a column that views read: {', '.join(views)}",
        where=where,
        fix="drop these views, run the load, then run `medallion transform`, which creates them again",
    )


async def no_longer_held(warehouse: Connection[Record], target: Target, held: list[SchemaChange]) -> list[str]:
    """Columns with quarantined rows although no change is held back any more: raw or the source was changed."""
    return released(await open_rules(warehouse, PREFIX, table=target.name), held)


def released(waiting: Collection[str], held: list[SchemaChange]) -> list[str]:
    """Of the columns with quarantined rows, those of which no change is held back any more."""
    return sorted({*waiting} - {change.column for change in held if change.change != "dropped"})


async def record_held(session: LoadSession, held: list[SchemaChange]) -> None:
    """Changes held back from raw → ops.schema_changes, once each, whatever the result of the load."""
    facts = [(one.column, one.change, one.old_type, one.new_type) for one in held]
    target = session.target
    await schema_changes.record_refused(session.warehouse, target.source, target.table, session.batch_id, facts)


def described_changes(changes: Iterable[SchemaChange], held: Iterable[SchemaChange]) -> tuple[str, ...]:
    """`("price retyped", "note added, held back")`."""
    taken = tuple(f"{change.column} {change.change}" for change in changes)
    return taken + tuple(f"{change.column} {change.change}, held back" for change in held)


def returned(changes: list[SchemaChange]) -> list[str]:
    """Columns that returned: raw's values of them are as old as their drop, in every row."""
    return [change.column for change in changes if change.change == "returned"]
