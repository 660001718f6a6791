"""The task that makes roles on RDS: real PostgreSQL, run by a role that may what RDS's administrator may."""

import json
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from flows.access import addresses
from flows.values.settings import settings
from infra.aws_roles import main
from infra.local import roles as local_roles
from infra.local.postgres import Cluster
from tests.conftest import HOME_PREFIX, TEST_SETTINGS, fastest_folder
from tests.moto_aws import Aws, aws, moto

__all__ = ["aws", "moto"]

ROLES: tuple[addresses.Role, ...] = ("loader", "transformer", "reader")
ADMIN_PASSWORD = "of-the-superuser"
MASTER_PASSWORD = "of-rds"


@dataclass(frozen=True)
class Rds:
    """An empty cluster whose administrator is no superuser, as on RDS."""

    port: int

    def url(self, user: str, password: str, database: str) -> str:
        """An address in it."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"


@pytest.fixture
def rds() -> Iterator[Rds]:
    home = Path(tempfile.mkdtemp(prefix=HOME_PREFIX, dir=fastest_folder()))
    home.chmod(0o711)
    server = Cluster(home / "p", TEST_SETTINGS)
    try:
        started = server.start(admin_password=ADMIN_PASSWORD)
        rds = Rds(started.port)
        with psycopg.connect(rds.url(local_roles.ADMIN, ADMIN_PASSWORD, "postgres"), autocommit=True) as superuser:
            superuser.execute(f"create role master login createrole createdb password '{MASTER_PASSWORD}'")
            superuser.execute("create role rds_iam")
            superuser.execute("grant rds_iam to master with admin option")
            superuser.execute("grant pg_read_all_stats to master with admin option")
            superuser.execute("alter database postgres owner to master")
        yield rds
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def prefix(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> str:
    """Secrets as Pulumi makes them: the administrator's filled by RDS, those of the roles empty."""
    prefix = f"medallion-{secrets.token_hex(4)}/"
    monkeypatch.setenv("MEDALLION_SECRETS_PREFIX", prefix)
    settings.cache_clear()
    client = aws.client("secretsmanager")
    for role in ("loader", "transformer", "reader"):
        client.create_secret(Name=f"{prefix}warehouse-{role}")
    admin = {"username": "master", "password": MASTER_PASSWORD}
    client.create_secret(Name=f"{prefix}rds", SecretString=json.dumps(admin))
    return prefix


def run(rds: Rds, prefix: str) -> int:
    address, admin = f"127.0.0.1:{rds.port}", f"{prefix}rds"
    where = ["--warehouse", address, "--warehouse-admin", admin, "--prefect", address, "--prefect-admin", admin]
    return main([*where, "--sslmode", "disable"])


def test_after_the_task_every_role_comes_in_by_its_secret_and_the_second_run_changes_no_password(
    rds: Rds, prefix: str, aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(rds, prefix) == 0
    first = capsys.readouterr().out
    urls = {role: addresses.warehouse(role).url for role in ROLES}
    for role, address in urls.items():
        with psycopg.connect(address) as session:
            assert session.execute("select current_user, current_database()").fetchone() == (
                f"medallion_{role}",
                "warehouse",
            )
    with psycopg.connect(urls["loader"]) as session:
        session.execute("create schema raw_shop")
        session.execute("create table raw_shop.stores as select 1 as store_id")
    with psycopg.connect(urls["transformer"]) as session:
        assert session.execute("select store_id from raw_shop.stores").fetchone() == (1,)
    with psycopg.connect(urls["reader"]) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("select * from raw_shop.stores")
    with psycopg.connect(urls["reader"]) as session:
        bounds = "select current_setting('idle_in_transaction_session_timeout'), current_setting('statement_timeout')"
        assert session.execute(bounds).fetchone() == ("1min", "15min")
        # Only a superuser may bound temporary files, and the administrator of RDS is none.
        assert session.execute("select current_setting('temp_file_limit')").fetchone() == ("-1",)

    assert run(rds, prefix) == 0
    assert {role: addresses.warehouse(role).url for role in ROLES} == urls
    assert "made  password of medallion_loader" in first
    assert "kept  password of medallion_loader" in capsys.readouterr().out
    passwords = [psycopg.conninfo.conninfo_to_dict(address)["password"] for address in urls.values()]
    assert not [password for password in passwords if str(password) in first]


def test_prefect_owns_its_database_comes_in_by_iam_and_can_migrate_it(rds: Rds, prefix: str) -> None:
    assert run(rds, prefix) == 0
    with psycopg.connect(rds.url(local_roles.ADMIN, ADMIN_PASSWORD, "prefect"), autocommit=True) as superuser:
        facts = superuser.execute(
            "select pg_has_role('prefect', 'rds_iam', 'member'), rolpassword is null,"
            " (select datdba::regrole::text from pg_database where datname = 'prefect')"
            " from pg_authid where rolname = 'prefect'"
        ).fetchone()
        assert facts == (True, True, "prefect")
        superuser.execute("set role prefect")
        superuser.execute("create extension if not exists pg_trgm")
        superuser.execute("create table public.flow (name text)")
        superuser.execute("create index on public.flow using gin (name gin_trgm_ops)")
