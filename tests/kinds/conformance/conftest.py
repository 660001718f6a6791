"""A source of the kind, and a warehouse, for each promise."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flows.values.settings import settings
from tests.conftest import TestDatabase
from tests.kinds.conformance.end import Fixture
from tests.kinds.conformance.given import Given


@pytest.fixture
def begin(
    warehouse: TestDatabase, shop: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Fixture], Given]]:
    """Starts a kind's source and points the platform at it and at an empty warehouse."""
    with ExitStack() as started:

        def start(fixture: Fixture) -> Given:
            if missing := fixture.missing():
                pytest.skip(missing)
            end = started.enter_context(fixture.start(shop, tmp_path))
            for name, value in {**end.variables, "MEDALLION_WAREHOUSE_URL": warehouse.url("loader")}.items():
                monkeypatch.setenv(name, value)
            monkeypatch.setattr("deployments.documents.SOURCES", (end.source,))
            monkeypatch.setattr(
                "flows.verbs.find.SOURCES", tuple(source for source in (end.source, end.by_id) if source)
            )
            settings.cache_clear()
            return Given(end, warehouse, fixture.module, end.source)

        yield start
    settings.cache_clear()
