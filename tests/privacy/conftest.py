"""What tests of erasures begin with."""

from collections.abc import Iterator

import pytest

from tests.conftest import TestCluster, TestDatabase, copy_of, fresh_shop, fresh_warehouse
from tests.kinds.loading import change
from tests.privacy.one_household import WORDS, fill, reached


@pytest.fixture(scope="module")
def filled(cluster: TestCluster) -> Iterator[tuple[TestDatabase, TestDatabase]]:
    """Both ends, in which nothing has been erased. Tests take copies: filling them takes ten times as long."""
    with fresh_warehouse(cluster) as warehouse, fresh_shop(cluster) as shop:
        fill(WORDS[0], warehouse, shop)
        # A copy of a database is another source, whose cursors nobody would trust.
        change(warehouse, "update ops.cursors set identity = null", role="loader")
        yield warehouse, shop


@pytest.fixture
def shop(request: pytest.FixtureRequest, cluster: TestCluster) -> Iterator[TestDatabase]:
    """The shop of `held`, for tests that ask for both; for others one that nobody has read."""
    if "held" not in request.fixturenames:
        with fresh_shop(cluster) as fresh:
            yield fresh
        return
    with copy_of(request.getfixturevalue("filled")[1]) as copied:
        yield copied


@pytest.fixture
def held(
    filled: tuple[TestDatabase, TestDatabase], shop: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestDatabase]:
    """A warehouse that holds household 5 in every layer, at the doors, and in what operations remember."""
    with copy_of(filled[0]) as warehouse, reached(warehouse, shop, monkeypatch):
        yield warehouse
