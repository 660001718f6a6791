"""What tests of erasures begin with."""

from collections.abc import Iterator

import pytest

from tests.conftest import TestDatabase
from tests.privacy.one_household import WORDS, known_as


@pytest.fixture
def held(warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestDatabase]:
    """A warehouse that holds household 5 in every layer, at the doors, and in what operations remember."""
    with known_as(WORDS[0], warehouse, shop, monkeypatch) as database:
        yield database
