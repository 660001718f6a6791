"""Variants of a test that are tried each night, where one or two of them are tried with every change.

@pytest.mark.parametrize("table", ["orders", *nightly("prices", "events")])
@pytest.mark.parametrize(("fault", "way"), each_once(FAULTS, WAYS))
@pytest.mark.parametrize("way", chosen(WAYS, "merge", "replace"))
"""

from collections.abc import Iterable
from itertools import product
from typing import Any

import pytest


def nightly(*variants: Any) -> list[Any]:
    """The variants, marked `long`."""
    return [pytest.param(variant, marks=pytest.mark.long) for variant in variants]


def each_once(first: Iterable[Any], second: Iterable[Any]) -> list[Any]:
    """All pairs of the two, of which every change tries so many that each member is in one, and a night the others."""
    rows, columns = [*first], [*second]
    tried = {(n % len(rows), n % len(columns)) for n in range(max(len(rows), len(columns)))}
    return [
        pytest.param(row, column, marks=[] if (m, n) in tried else pytest.mark.long)
        for (m, row), (n, column) in product(enumerate(rows), enumerate(columns))
    ]


def chosen(variants: Iterable[Any], *names: Any) -> list[Any]:
    """All variants, of which every change tries the named ones, and a night the others."""
    known = [*variants]
    assert {*names} <= {*known}, names
    return [name if name in names else pytest.param(name, marks=pytest.mark.long) for name in known]
