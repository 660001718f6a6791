"""The fixtures of every registered kind of source."""

from __future__ import annotations

import importlib

from flows.kinds.registry import KINDS
from tests.kinds.conformance.end import Fixture


def fixture_of(kind: str) -> Fixture:
    """What the kind brings: `FIXTURE` in tests/kinds/<kind>/conformance.py."""
    found: Fixture = importlib.import_module(f"tests.kinds.{kind}.conformance").FIXTURE
    return found


FIXTURES = {kind: fixture_of(kind) for kind in KINDS}
