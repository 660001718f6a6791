"""A PostgreSQL of a test's own, which may be restarted, copied and killed without harm to other tests.

with private_cluster() as private:
    with fresh_shop(private.cluster) as shop: ...
    private.restart("immediate")
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from infra.local import roles
from infra.local.account import account_for
from infra.local.ports import any_free
from infra.local.postgres import Cluster
from infra.local.programs import run
from tests.conftest import (
    HOME_PREFIX,
    HOME_VARIABLE,
    SHOP_ROLES,
    TEST_SETTINGS,
    WAREHOUSE_ROLES,
    TestCluster,
    TestDatabase,
    connect_admin,
    copy_database,
    create_templates,
    fastest_folder,
)


@dataclass
class PrivateCluster:
    """A running cluster, its administrator's session, and the copies of it that were made."""

    server: Cluster
    cluster: TestCluster
    copies: ExitStack = field(repr=False)

    def shop(self, name: str) -> TestDatabase:
        """A database like those that `shop` gives; it ends with the cluster."""
        return self._database(name, "shop_template", SHOP_ROLES)

    def warehouse(self, name: str) -> TestDatabase:
        """A database like those that `warehouse` gives; it ends with the cluster."""
        return self._database(name, "warehouse_template", WAREHOUSE_ROLES)

    def _database(self, name: str, template: str, named: Mapping[str, str]) -> TestDatabase:
        with connect_admin(self.cluster.port, self.cluster.passwords) as admin:
            copy_database(admin, name, template)
        return TestDatabase(name, self.cluster, named)

    def restart(self, mode: str) -> None:
        """`fast` ends sessions and open transactions; `immediate` crashes, and recovers from the log."""
        self.cluster.connection.close()
        self._pg_ctl("restart", "-m", mode)

    def promote(self) -> None:
        """Make a standby a primary."""
        self._pg_ctl("promote")

    def stop(self) -> None:
        """Stop at once, as a machine that burns."""
        self.cluster.connection.close()
        self._pg_ctl("stop", "-m", "immediate")

    def standby(self, settings: Mapping[str, str]) -> "PrivateCluster":
        """A copy that follows this one by its log and answers queries. Ends with it."""
        folder = self.server.folder.with_name(self.server.folder.name + "-standby")
        folder.mkdir(mode=0o700)
        account = account_for(self.server.folder)
        if account is not None:
            os.chown(folder, account.uid, account.gid)
        done = run(
            account,
            "pg_basebackup",
            *("-D", str(folder / "data"), "-d", self.cluster.url(roles.ADMIN, "postgres").replace("/postgres", "/")),
            *("-R", "-X", "stream", "-c", "fast", "--no-sync"),
            cwd=folder,
        )
        assert done.returncode == 0, done.stderr
        server = Cluster(folder, {**TEST_SETTINGS, **settings})
        started = server.start(admin_password="", port=any_free())
        self.copies.callback(server.stop)
        connection = self.copies.enter_context(connect_admin(started.port, self.cluster.passwords))
        return PrivateCluster(server, TestCluster(started.port, self.cluster.passwords, connection), self.copies)

    def _pg_ctl(self, *options: str) -> None:
        folder = self.server.folder
        log = ("-l", str(self.server.log)) if options[0] == "restart" else ()
        done = run(
            account_for(folder),
            "pg_ctl",
            *options,
            *log,
            "-D",
            str(self.server.data),
            "-w",
            "-s",
            "-t",
            "60",
            cwd=folder,
        )
        assert done.returncode == 0, done.stderr or done.stdout


@contextmanager
def private_cluster(settings: Mapping[str, str] | None = None) -> Iterator[PrivateCluster]:
    """A new cluster with the roles and templates of the run's own; takes a second or two."""
    within = os.environ.get(HOME_VARIABLE) or str(fastest_folder())
    home = Path(tempfile.mkdtemp(prefix=HOME_PREFIX, dir=within))
    home.chmod(0o711)
    passwords = {role: secrets.token_urlsafe(12) for role in (roles.ADMIN, *roles.ROLES)}
    server = Cluster(home / "p", {**TEST_SETTINGS, **(settings or {})})
    try:
        with ExitStack() as copies:
            started = server.start(admin_password=passwords[roles.ADMIN])
            with connect_admin(started.port, passwords) as connection:
                cluster = TestCluster(started.port, passwords, connection)
                create_templates(cluster)
                yield PrivateCluster(server, cluster, copies)
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)
