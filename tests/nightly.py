"""Variants of a test that are tried each night, where one or two of them are tried with every change.

@pytest.mark.parametrize("table", ["orders", *nightly("prices", "events")])
"""

from typing import Any

import pytest


def nightly(*variants: Any) -> list[Any]:
    """The variants, marked `long`."""
    return [pytest.param(variant, marks=pytest.mark.long) for variant in variants]
