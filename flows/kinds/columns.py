"""Columns that a table's declaration takes, leaves out, takes as text, or masks."""

from __future__ import annotations

from collections.abc import Collection

from flows.declare.mask import Hashed, Mask, Masked
from flows.declare.table import Table
from flows.values.errors import SourceError


def refuse_unknown_columns(table: Table, at_source: Collection[str], where: str) -> None:
    """Raises:
    SourceError: a declared name is none of the source's columns: a mistyped name of `exclude` or `masked` would load
        what must not leave the source.
    """
    named = {"columns": table.columns, "exclude": table.exclude, "as_text": table.as_text, "masked": [*table.masked]}
    for argument, names in named.items():
        if missing := [name for name in names if name not in at_source]:
            raise SourceError(
                f"column {', '.join(missing)} of {argument} is not in the table",
                where=where,
                fix="correct the declaration in flows/sources; names are case-sensitive",
            )


def declared_of_columns(table: Table) -> tuple[str, ...]:
    """What a plan says of rows and columns that are not read, or not as they are."""
    said = ["the rows of a declared query"] if table.query else []
    if table.exclude:
        said.append(f"left out as declared: {', '.join(table.exclude)}")
    if table.columns:
        said.append(f"only the declared columns: {', '.join(table.columns)}")
    if table.where:
        said.append(f"only rows for which {table.where}")
    if table.masked:
        said.append(f"masked as declared: {masks_in_words(table)}")
    return tuple(said)


def masks_in_words(table: Table) -> str:
    """`email (hashed), phone (masked but for 2 characters)`."""
    return ", ".join(f"{name} ({_in_words(mask)})" for name, mask in table.masked.items())


def _in_words(mask: Mask) -> str:
    match mask:
        case Hashed():
            return "hashed"
        case Masked(keep=0):
            return "masked"
        case Masked(keep=keep):
            return f"masked but for {keep} characters"
