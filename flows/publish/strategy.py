"""The load strategy of a table."""

from __future__ import annotations

from flows.declare import Append
from flows.declare.source import Loadable


def strategy_of(table: Loadable) -> str:
    """`merge`, `append`, `replace`, `overwrite`; `by hints` until the source has decided it."""
    return type(table.load).__name__.lower() if table.load is not None else "by hints"


def leaves_alone(table: Loadable) -> bool:
    """Whether a load skips rows that raw has, even if it reads them again."""
    return isinstance(table.load, Append) and bool(table.keys)
