"""Shared code for tables of all database kinds."""

from __future__ import annotations

from flows.declare import Hashed, Overwrite
from flows.declare.table import Table
from flows.kinds.answers import Column


def table_columns(table: Table) -> list[Column]:
    """Key, cursor, partition column, and those that are masked; the other columns are the source's."""
    own = [
        Column(name, "Keyed hash of the row's key at the source.", "text")
        if name in table.masked
        else Column(name, "Key of the row at the source.")
        for name in table.keys
    ]
    for name, mask in table.masked.items():
        if name not in table.keys:
            said = "Keyed hash" if isinstance(mask, Hashed) else "Mask"
            own.append(Column(name, f"{said} of the value at the source.", "text", required=False))
    if table.cursor_column is not None and table.cursor_column not in table.keys:
        own.append(Column(table.cursor_column, "When the row last changed at the source.", required=False))
    if isinstance(table.load, Overwrite) and table.load.by not in [column.name for column in own]:
        said = f"Partition column: rows of one {table.load.every} are overwritten together."
        own.append(Column(table.load.by, said, required=False))
    return own
