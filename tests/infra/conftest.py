"""Homes for stacks of the tests' own, stopped whatever happens."""

from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import pytest

from infra.local.home import Home
from infra.local.stack import down

#: Test machines may be small, and these stacks hold next to nothing.
LITTLE = 64 * 1024**2


@pytest.fixture
def home() -> Iterator[Home]:
    """An empty home. Directly below the folder for temporary files: PostgreSQL's account must pass through to it."""
    root = Path(mkdtemp(prefix="mds-"))
    root.chmod(0o711)
    yield Home(root / ".medallion")
    root.chmod(0o711)
    down(home=Home(root / ".medallion"))
    rmtree(root, ignore_errors=True)
