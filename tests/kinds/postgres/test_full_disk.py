"""A disk of the warehouse that is full: a matter of resources, and nothing partial is left."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.failures.diagnose import diagnose
from flows.values.errors import FailureClass, WarehouseError
from tests.conftest import TestCluster, TestDatabase
from tests.kinds.loading import change, cursor, load, loads, raw_rows, rows
from tests.kinds.postgres.invariants import six_invariants
from tests.kinds.postgres.large_table import LARGE, ROWS, large
from tests.publish.two_ends import TwoEnds

__all__ = ["large"]  # a fixture


@pytest.fixture
def small_disk(cluster: TestCluster) -> Iterator[str]:
    """The name of a tablespace of 8 MB."""
    folder = Path(tempfile.mkdtemp(prefix="mdt-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        folder.rmdir()
        pytest.skip("a disk of 8 MB cannot be mounted here: it takes root's rights")
    name = folder.name.replace("-", "_").lower()
    try:
        row = cluster.connection.execute("select pg_read_file('postmaster.pid', true) is not null").fetchone()
        assert row is not None
        data = cluster.connection.execute("show data_directory").fetchone()
        assert data is not None
        owner = Path(str(data[0])).stat()
        shutil.chown(folder, owner.st_uid, owner.st_gid)
        cluster.connection.execute(f"create tablespace {name} location '{folder}'".encode())
        yield name
        cluster.connection.execute(f"drop tablespace {name}".encode())
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()


async def test_a_full_disk_is_a_matter_of_resources_and_leaves_nothing_partial(
    small_disk: str, warehouse: TestDatabase, large: TestDatabase, cluster: TestCluster
) -> None:
    cluster.connection.execute(f"grant create on tablespace {small_disk} to medallion_loader".encode())
    cluster.connection.execute(f"alter database {warehouse.name} set default_tablespace = {small_disk}".encode())

    async with six_invariants(TwoEnds(warehouse, large), LARGE):
        with pytest.raises(WarehouseError, match="53100") as caught:
            await load(warehouse, large, "large", LARGE)

        assert not caught.value.retryable
        failure = diagnose(caught.value, "")
        assert failure.failure_class is FailureClass.RESOURCE
        assert failure.strategy.value == "wait until the resource is there; no hot retry"
        assert rows(warehouse, "select to_regclass('raw_shop.large') as raw") == [{"raw": None}]
        assert cursor(warehouse, "large") is None
        cluster.connection.execute(f"alter database {warehouse.name} reset default_tablespace".encode())


async def test_a_disk_that_fills_up_while_rows_are_published_takes_everything_back(
    small_disk: str, warehouse: TestDatabase, large: TestDatabase, cluster: TestCluster
) -> None:
    """The landing table fits, raw's own tablespace does not take its rows."""
    change(large, f"delete from large where id > {ROWS // 4}")
    await load(warehouse, large, "large", LARGE)
    change(large, "update large set filler = reverse(filler)")
    cluster.connection.execute(f"grant create on tablespace {small_disk} to medallion_loader".encode())
    before = raw_rows(warehouse, "large")
    change(warehouse, f"alter table raw_shop.large set tablespace {small_disk}", role="loader")

    async with six_invariants(TwoEnds(warehouse, large), LARGE):
        with pytest.raises(WarehouseError, match="53100") as caught:
            await load(warehouse, large, "large", LARGE)

        assert diagnose(caught.value, "").failure_class is FailureClass.RESOURCE
        assert raw_rows(warehouse, "large") == before
        assert [entry["status"] for entry in loads(warehouse)] == ["published", "failed"]
        change(warehouse, "alter table raw_shop.large set tablespace pg_default", role="loader")
