"""Columns that a table's declaration takes, leaves out, or takes as text."""

from __future__ import annotations

from collections.abc import Collection

from flows.declare.table import Table
from flows.values.errors import SourceError


def refuse_unknown_columns(table: Table, at_source: Collection[str], where: str) -> None:
    """Raises:
    SourceError: a declared name is none of the source's columns: a mistyped name of `exclude` would load what must not
        leave the source.
    """
    named = {"columns": table.columns, "exclude": table.exclude, "as_text": table.as_text}
    for argument, names in named.items():
        if missing := [name for name in names if name not in at_source]:
            raise SourceError(
                f"column {', '.join(missing)} of {argument} is not in the table",
                where=where,
                fix="correct the declaration in flows/sources; names are case-sensitive",
            )


def left_out(table: Table) -> tuple[str, ...]:
    """What a plan says of columns that are not read."""
    if table.exclude:
        return (f"left out as declared: {', '.join(table.exclude)}",)
    return (f"only the declared columns: {', '.join(table.columns)}",) if table.columns else ()
