"""A folder and a warehouse for each test."""

from pathlib import Path

import pytest

from tests.conftest import TestDatabase
from tests.kinds.files.loading import Drop
from tests.moto_aws import aws, moto

__all__ = ["aws", "moto"]

pytest.importorskip("pyarrow", reason="the extra `files` is not installed")


@pytest.fixture
def drop(warehouse: TestDatabase, tmp_path: Path) -> Drop:
    root = tmp_path / "drop"
    root.mkdir()
    return Drop(root, warehouse)
