"""One small warehouse for all files of this folder: each test finds it built, and leaves it so."""

from collections.abc import Iterator

import pytest

from tests.conftest import TestCluster, fresh_warehouse
from tests.dbt_project.quick_dbt import hurrying
from tests.models.selective.small_project import ALL, SmallWarehouse


@pytest.fixture(scope="package")
def built(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallWarehouse]:
    """Built once; each test leaves it up to date."""
    with hurrying(), fresh_warehouse(cluster) as database:
        small = SmallWarehouse(database, tmp_path_factory.mktemp("small"))
        assert small.build()
        assert small.nodes_built() == ALL
        yield small


@pytest.fixture
def small(built: SmallWarehouse) -> Iterator[SmallWarehouse]:
    yield built
    built.sabotage = lambda _, decision: decision
    built.remove_added()
    assert built.build()
    assert built.differing() == []
