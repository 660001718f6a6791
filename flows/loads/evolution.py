"""How the source's columns differ from raw's, also from what raw kept of columns that were gone for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from flows.load.table import SchemaChange, Target, differences, retyped, views_on
from flows.spec.database import OnDrift
from flows.spec.errors import SchemaDrift
from flows.spec.shape import Shape
from flows.spec.widening import widens
from flows.state.schema_changes import dropped_columns

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def changes_since(
    warehouse: Connection[Record],
    target: Target,
    shape: Shape,
    raw: dict[str, str] | None,
    on_drift: OnDrift = "evolve",
) -> list[SchemaChange]:
    """What changed since raw was shaped, and may reach it; nothing before the first load.

    Raises:
        SchemaDrift: something changed that must not reach raw; `changes` of the error says what.
    """
    if raw is None:
        return []
    changes = differences(shape, raw)
    gone = await dropped_columns(warehouse, target.source, target.table)
    changes += [
        SchemaChange(column.name, "returned", column.raw_type, column.raw_type)
        for column in shape.columns
        if column.name in gone and column.name in raw
    ]
    if on_drift == "freeze" and changes:
        _refuse(_frozen(changes, target.where), changes)
    for change in changes:
        if change.change == "retyped":
            if not widens(str(change.old_type), str(change.new_type)):
                _refuse(retyped(change, target.where), [change])
            if views := await views_on(warehouse, target, change.column):
                _refuse(_in_use(change, views, target.where), [change])
    return changes


def _refuse(error: SchemaDrift, changes: list[SchemaChange]) -> NoReturn:
    error.__dict__["changes"] = [(one.column, one.change, one.old_type, one.new_type) for one in changes]
    raise error


def _frozen(changes: list[SchemaChange], where: str) -> SchemaDrift:
    listed = ", ".join(f"{change.column} {change.change}" for change in changes)
    return SchemaDrift(
        f"the table's columns are frozen, and changed at the source: {listed}",
        where=where,
        next_move='take the change in with on_drift="evolve", or give raw the columns yourself (a dropped one: drop it '
        "in raw)",
    )


def _in_use(change: SchemaChange, views: list[str], where: str) -> SchemaDrift:
    return SchemaDrift(
        f"column {change.column} is {change.new_type} at the source now and {change.old_type} in raw; every value "
        f"fits, but views read it, and PostgreSQL keeps its type for them: {', '.join(views)}",
        where=where,
        next_move="drop these views, run the load, then `medallion transform`, which makes them again",
    )


def returned(changes: list[SchemaChange]) -> list[str]:
    """Columns that came back: what raw kept of them is as old as their drop, in every row."""
    return [change.column for change in changes if change.change == "returned"]
