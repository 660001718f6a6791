"""The load strategy of a table."""

from __future__ import annotations

from collections.abc import Sequence

from flows.declare import Append
from flows.declare.source import Loadable


def strategy_of(table: Loadable) -> str:
    """`merge`, `append`, `replace`, `overwrite`; `by hints` until the source has decided it."""
    return type(table.load).__name__.lower() if table.load is not None else "by hints"


def leaves_alone(table: Loadable) -> bool:
    """Whether a load skips rows that raw has, even if it reads them again."""
    return isinstance(table.load, Append) and bool(table.keys)


def not_unique(keys: Sequence[str]) -> str:
    """What a plan says of a key that nothing at the source keeps unique."""
    return (
        f"the source has no unique index on {', '.join(keys)}: rows with equal keys would be quarantined as "
        "key_not_unique"
    )
