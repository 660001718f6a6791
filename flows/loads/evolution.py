"""How the source's columns differ from raw's, also from what raw kept of columns that were gone for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.load.table import SchemaChange, Target, compare
from flows.spec.shape import Shape
from flows.state.schema_changes import dropped_columns

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def changes_since(
    warehouse: Connection[Record], target: Target, shape: Shape, raw: dict[str, str] | None
) -> list[SchemaChange]:
    """What changed since raw was shaped; nothing before the first load.

    Raises:
        SchemaDrift: a column has another type now.
    """
    if raw is None:
        return []
    changes = compare(shape, raw, target.where)
    gone = await dropped_columns(warehouse, target.source, target.table)
    return changes + [
        SchemaChange(column.name, "returned", column.raw_type, column.raw_type)
        for column in shape.columns
        if column.name in gone and column.name in raw
    ]


def returned(changes: list[SchemaChange]) -> list[str]:
    """Columns that came back: what raw kept of them is as old as their drop, in every row."""
    return [change.column for change in changes if change.change == "returned"]
