"""By which strategy a table is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.declare import Append
from flows.kinds.postgres import Table

if TYPE_CHECKING:
    pass


def mode_of(table: Table) -> str:
    """`merge`, `append`, `replace` or `overwrite`."""
    return type(table.load).__name__.lower()


def leaves_alone(table: Table) -> bool:
    """Whether a load passes over rows that raw has, also where it reads them again."""
    return isinstance(table.load, Append) and bool(table.keys)
