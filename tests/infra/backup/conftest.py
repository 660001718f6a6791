"""A warehouse in a cluster of its own that is backed up, and a shop elsewhere that outlives it."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import psycopg
import pytest

from flows.publish.session import LoadResult
from flows.sources.shop import shop as declared_shop
from flows.values.settings import settings
from infra.backup import key, server
from infra.backup.aside import aside
from infra.backup.catalog import Backup, Catalog, open_catalog
from infra.backup.key import Keys
from infra.backup.recover import Recovered, Recovery, recovered
from infra.backup.store import FolderStore, open_store
from infra.backup.take import archiving, take
from infra.backup.target import Target
from infra.local.account import account_for
from tests.conftest import TestCluster, TestDatabase, fresh_shop
from tests.kinds.loading import addresses, load
from tests.private_cluster import PrivateCluster, private_cluster


@dataclass(frozen=True)
class Backed:
    """What a test of backups works with. Everything of it is in `root`, which goes with it."""

    root: Path
    private: PrivateCluster = field(repr=False)
    warehouse: TestDatabase
    shop: TestDatabase
    keys: Keys

    @property
    def store(self) -> FolderStore:
        found = open_store()
        assert isinstance(found, FolderStore)
        return found

    @property
    def catalog(self) -> Catalog:
        return open_catalog(self.store)

    def back_up(self) -> Backup:
        return take(self.store, self.keys, home=None)

    @contextmanager
    def archived(self) -> Iterator[None]:
        """While the block lasts the log is archived; at its end, all that was committed in it."""
        with archiving(server.address(), self.catalog, self.keys):
            yield
            self.until_archived()

    def until_archived(self) -> None:
        """Wait until everything committed before now is in the archive."""
        with server.connect(server.address()) as session:
            now = server.clock(session)
        until = time.monotonic() + 60
        while (mark := self.catalog.watermark()) is None or mark.at < now:
            assert time.monotonic() < until, "the archive did not come as far"
            time.sleep(0.1)

    @contextmanager
    def recovered(self, target: Target | None = None, keys: Keys | None = None) -> Iterator[Recovered]:
        """The cluster as it was, beside the live one."""
        with (
            aside(self.root / "scratch", account_for(self.root / "scratch")) as folder,
            recovered(
                Recovery(self.catalog, keys or self.keys, target or Target()), folder, account=account_for(folder)
            ) as found,
        ):
            yield found

    def run(self, statement: str) -> None:
        """Run a statement in the warehouse as its administrator."""
        with psycopg.connect(self.warehouse.url("admin"), autocommit=True) as session:
            session.execute(statement.encode())

    async def load(self, table: str) -> LoadResult:
        return await load(self.warehouse, self.shop, table, declared_shop)

    def now(self) -> str:
        """The server's clock, as a person writes a moment."""
        with psycopg.connect(self.warehouse.url("admin")) as session:
            row = session.execute("select clock_timestamp()::text").fetchone()
        assert row is not None
        return str(row[0])


@pytest.fixture(scope="module")
def backed(cluster: TestCluster) -> Iterator[Backed]:
    """One for the tests of a file; each begins with a backup of its own."""
    with (
        fresh_shop(cluster) as shop,
        pytest.MonkeyPatch.context() as patch,
        backed_up_cluster(shop, patch.setenv) as found,
    ):
        yield found


@contextmanager
def backed_up_cluster(shop: TestDatabase, setenv: Callable[[str, str], None]) -> Iterator[Backed]:
    """What `backed` gives, for fixtures that live longer than a test."""
    root = Path(mkdtemp(prefix="mdl-", dir=os.environ["MEDALLION_TEST_HOME"]))
    root.chmod(0o711)
    try:
        with private_cluster({"wal_writer_delay": "10ms", "max_slot_wal_keep_size": "128MB"}) as private:
            warehouse = private.warehouse("warehouse")
            keys = key.make(root / "backup.key")
            for name, value in {
                **addresses(warehouse, shop),
                "MEDALLION_HOME": str(root / "home"),
                "MEDALLION_BACKUP_TO": str(root / "store"),
                "MEDALLION_BACKUP_KEY_FILE": str(root / "backup.key"),
                "MEDALLION_BACKUP_URL": private.cluster.url("medallion_backup", "postgres"),
                "MEDALLION_BACKUP_INTERVAL_SECONDS": "0.3",
            }.items():
                setenv(name, value)
            settings.cache_clear()
            yield Backed(root, private, warehouse, shop, keys)
    finally:
        settings.cache_clear()
        rmtree(root, ignore_errors=True)
