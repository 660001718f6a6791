"""A source with triggers, and an empty warehouse."""

import pytest

from tests.conftest import TestDatabase
from tests.kinds.captured.captured_ends import CapturedEnds


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> CapturedEnds:
    return CapturedEnds(warehouse, shop)
