"""The graphs of the stacks. Recording one takes two to four seconds, so it is done once, in one worker: see `GROUP`."""

from collections.abc import Callable
from functools import cache

import pytest

from infra.pulumi.graph import STACKS, Graph, record

GraphOf = Callable[[str], Graph]


@pytest.fixture(scope="session")
def graph_of() -> GraphOf:
    """The graph of a stack by its name."""
    return cache(record)


@pytest.fixture(params=STACKS)
def graph(request: pytest.FixtureRequest, graph_of: GraphOf) -> Graph:
    """Each stack's graph in turn."""
    return graph_of(request.param)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them in one worker, which shares the recorded graphs."""
    for item in items:
        if "tests/infra/pulumi" in item.path.as_posix():
            item.add_marker(pytest.mark.xdist_group("pulumi"))
