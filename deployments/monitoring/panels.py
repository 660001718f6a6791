"""A Grafana dashboard as data: each panel with its question and its queries. Rendered by dashboards.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Chosen at the top of a dashboard. `$source` and the others take all values by default.
OF = 'environment=~"$environment"'
TABLE = f'{OF}, source=~"$source", table=~"$table"'


@dataclass(frozen=True, slots=True)
class Shown:
    """A panel. `queries`: expression and legend. `bad_from`: from this value on it is coloured as bad."""

    title: str
    question: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: Literal["stat", "lines"] = "lines"
    bad_from: float | None = None
    bad_below: float | None = None


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard: rows of panels by title, and variables by name with the metric that has their values as a label."""

    file: str
    title: str
    description: str
    rows: tuple[tuple[str, tuple[Shown, ...]], ...]
    variables: tuple[tuple[str, str], ...] = (("environment", "medallion_watch_rounds_total"),)
