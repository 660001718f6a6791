"""A row of numbers as a small chart in one line of text."""

from __future__ import annotations

from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"
_MISSING = "·"


def sparkline(values: Sequence[float | None], low: float | None = None, high: float | None = None) -> str:
    """`▁▂▅█·▃`: one character per value, from `low` to `high` (default: the least and the greatest); None is a dot."""
    known = [value for value in values if value is not None]
    if not known:
        return _MISSING * len(values)
    bottom = min(known) if low is None else low
    span = (max(known) if high is None else high) - bottom
    return "".join(
        _MISSING if value is None else _bar((value - bottom) / span if span > 0 else 0.0) for value in values
    )


def _bar(share: float) -> str:
    return _BARS[min(max(int(share * len(_BARS)), 0), len(_BARS) - 1)]
