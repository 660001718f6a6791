"""A source whose log is read, and an empty warehouse."""

from collections.abc import Iterator

import pytest

from tests.conftest import TestDatabase
from tests.kinds.changelog.log_ends import LogEnds, log_source


@pytest.fixture
def ends(warehouse: TestDatabase) -> Iterator[LogEnds]:
    """Each test's own database, in a cluster that the tests of a worker share."""
    with log_source() as shop:
        yield LogEnds(warehouse, shop)
