"""A folder of events and a warehouse for each test."""

from pathlib import Path

import pytest

from tests.conftest import TestDatabase
from tests.kinds.debezium.loading import Events


@pytest.fixture
def events(warehouse: TestDatabase, tmp_path: Path) -> Events:
    root = tmp_path / "events"
    root.mkdir()
    return Events(root, warehouse)
