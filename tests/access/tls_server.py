"""A PostgreSQL that speaks TLS: Debian's, because the wheel's is built without OpenSSL.

It takes no connection without TLS, so whoever got in came encrypted. Its certificate is for `localhost`: the same
server asked for as 127.0.0.1 is one with a certificate for another host.
"""

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from infra.local import roles
from infra.local.account import account_for
from infra.local.ports import any_free
from tests.access.authority import Authority
from tests.conftest import (
    HOME_PREFIX,
    ROOT,
    SHOP_ROLES,
    WAREHOUSE_ROLES,
    TestCluster,
    TestDatabase,
    connect_admin,
    fastest_folder,
)

_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
PROGRAMS = _PROGRAMS[-1].parent if _PROGRAMS else None

# A role that comes with a certificate needs it; whoever comes without TLS is refused.
_HBA = """
hostssl all by_certificate 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 scram-sha-256
"""


@dataclass(frozen=True)
class TlsServer:
    """The running server, its databases, and the authority that signed its certificate."""

    cluster: TestCluster
    warehouse: TestDatabase
    shop: TestDatabase
    authority: Authority
    data: Path = field(repr=False)

    def url(self, database: TestDatabase, role: str, *, host: str = "localhost", **query: object) -> str:
        """The database's address as the role, with what stands in `query`; TLS is verified unless it says otherwise."""
        asked = {"sslmode": "verify-full", "sslrootcert": self.authority.root} | query
        words = "&".join(f"{name}={value}" for name, value in asked.items() if value is not None)
        return f"{database.url(role).replace('127.0.0.1', host)}?{words}"

    @contextmanager
    def expired(self) -> Iterator[None]:
        """The server shows a certificate that has expired, to connections that begin now."""
        self._show(*self.authority.issue("localhost", expired=True))
        try:
            yield
        finally:
            self._show(*self.authority.issue("localhost"))

    def _show(self, certificate: Path, key: Path) -> None:
        (self.data / "server.crt").write_bytes(certificate.read_bytes())
        (self.data / "server.key").write_bytes(key.read_bytes())
        self.cluster.connection.execute("select pg_reload_conf()")
        until = time.monotonic() + 30
        while self._shows_an_expired_one() is not ("expired" in certificate.name):
            assert time.monotonic() < until, "the server does not take its new certificate"
            time.sleep(0.02)

    def _shows_an_expired_one(self) -> bool:
        try:
            psycopg.connect(self.url(self.shop, "extractor")).close()
        except psycopg.OperationalError as problem:
            return "certificate verify failed" in str(problem)
        return False


@contextmanager
def tls_server() -> Iterator[TlsServer]:
    """A server of these tests' own, with a warehouse and a shop in it."""
    assert PROGRAMS is not None
    folder = Path(tempfile.mkdtemp(prefix=f"{HOME_PREFIX}tls-", dir=fastest_folder()))
    folder.chmod(0o711)
    authority = Authority(folder / "authority")
    data, port = folder / "data", any_free()
    account = account_for(folder / "data")
    data.mkdir(mode=0o700)

    def run(program: str, *arguments: str) -> None:
        assert PROGRAMS is not None
        done = subprocess.run(
            [PROGRAMS / program, *arguments, "-D", str(data)],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
        assert done.returncode == 0, done.stderr + done.stdout

    def owned(path: Path) -> Path:
        if account is not None:
            os.chown(path, account.uid, account.gid)
        return path

    owned(data)
    passwords = {role: secrets.token_urlsafe(12) for role in (roles.ADMIN, *roles.ROLES)}
    secret = folder / "password"
    secret.write_text(passwords[roles.ADMIN])
    owned(secret)
    try:
        options = ("-U", roles.ADMIN, "--pwfile", str(secret), "--auth", "scram-sha-256", "--no-sync", "-E", "UTF8")
        run("initdb", *options)
        for source, name in zip(authority.issue("localhost"), ("server.crt", "server.key"), strict=True):
            shutil.copyfile(source, data / name)
            owned(data / name).chmod(0o600)
        shutil.copyfile(authority.root, data / "clients.crt")
        owned(data / "clients.crt")
        (data / "pg_hba.conf").write_text(_HBA)
        with (data / "postgresql.conf").open("a") as conf:
            conf.write(
                f"port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\n"
                "ssl = on\nssl_ca_file = 'clients.crt'\nlog_error_verbosity = terse\n"
            )
        run("pg_ctl", "start", "-w", "-s", "-t", "60", "-l", str(data / "log"))
        try:
            with connect_admin(port, passwords) as connection:
                cluster = TestCluster(port, passwords, connection)
                yield TlsServer(cluster, _warehouse(cluster), _shop(cluster), authority, data)
        finally:
            run("pg_ctl", "stop", "-m", "immediate", "-s")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# By hand, because roles_warehouse.sql asks for PostgreSQL 16, and Debian's may be older.
def _warehouse(cluster: TestCluster) -> TestDatabase:
    roles.ensure_roles(cluster.connection, cluster.passwords)
    roles.ensure_database(cluster.connection, "warehouse")
    cluster.connection.execute("grant create, temporary on database warehouse to medallion_loader")
    with psycopg.connect(cluster.url("medallion_loader", "warehouse"), autocommit=True) as loader:
        loader.execute((ROOT / "flows/state/schema.sql").read_bytes())
        loader.execute("alter default privileges grant usage on schemas to medallion_transformer")
        loader.execute("alter default privileges grant select on tables to medallion_transformer")
    return TestDatabase("warehouse", cluster, WAREHOUSE_ROLES)


def _shop(cluster: TestCluster) -> TestDatabase:
    roles.ensure_database(cluster.connection, "shop")
    with psycopg.connect(cluster.url(roles.ADMIN, "shop")) as connection:
        roles.grant_shop(connection)
    with psycopg.connect(cluster.url("shop_app", "shop")) as connection:
        connection.execute((ROOT / "demo/shop.sql").read_bytes())
        connection.execute((ROOT / "tests/shop_rows.sql").read_bytes())
    return TestDatabase("shop", cluster, SHOP_ROLES)
