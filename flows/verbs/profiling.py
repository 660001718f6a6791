"""How a table's loads are profiled: of which columns only nulls are counted."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from flows.declare.source import Source
from flows.quality.profile import Profiling
from flows.sources.profiling import NULLS_ONLY
from flows.sources.subjects import SUBJECTS
from flows.values.settings import settings


def profiling_of(source: Source, table: Any) -> Profiling:
    """By the settings, the declared subjects, the table's masks, and what is listed in flows/sources/profiling.py."""
    personal = {name for each in SUBJECTS for name in (each.key, *each.aliases, *each.linked, *each.identifying)}
    # Only kinds that can mask columns have any.
    masked = set(getattr(table, "masked", ()))
    listed = set()
    for pattern in NULLS_ONLY:
        *place, column = pattern.split(".", 2)
        if fnmatchcase(f"{source.name}.{table.name}", ".".join(place)):
            listed.add(column)
    return Profiling(settings().profile_rows, frozenset(personal | masked | listed))
