"""Every driver checks the server it talks to, says clearly when it does not like it, and none talks on without TLS."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from flows.access.addresses import connect
from flows.models.project import DBT_PROJECT, Invocation, run_dbt
from flows.quality import soda
from flows.sources.shop import shop as declared_shop
from flows.state.transform_lock import transform_lock
from flows.values.connection import DatabaseConnection
from flows.values.errors import ConfigurationError, FailureClass, MedallionError
from flows.verbs.load import load_table
from infra.local import roles
from tests.access.authority import Authority
from tests.access.tls_server import PROGRAMS, TlsServer, tls_server
from tests.conftest import TestDatabase
from tests.kinds.loading import rows, setting

pytestmark = [
    pytest.mark.xdist_group("tls"),
    pytest.mark.skipif(PROGRAMS is None, reason="Debian's postgresql, which speaks TLS, is not installed"),
]

CONTRACT = """
dataset: warehouse/warehouse/raw_shop/stores
columns:
  - name: store_id
checks:
  - row_count:
      threshold:
        must_be_greater_than: 0
"""


@pytest.fixture(scope="module")
def server() -> Iterator[TlsServer]:
    with tls_server() as running:
        yield running


# The ways in which the platform opens a connection, each by the driver that it uses.


def by_asyncpg(url: str, _: Path) -> None:
    async def ask() -> None:
        async with connect(DatabaseConnection("shop", url), side="source") as connection:
            assert await connection.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()")

    asyncio.run(ask())


def by_psycopg(url: str, _: Path) -> None:
    with transform_lock(DatabaseConnection("warehouse", url), wait_seconds=0):
        pass


def by_soda(url: str, folder: Path) -> None:
    contract = folder / "stores.yml"
    contract.write_text(CONTRACT)
    (found,) = soda.verify([contract], DatabaseConnection("warehouse", url).url, gate="raw")
    assert found.outcome == "passed", found


WAYS = [pytest.param(way, id=way.__name__.removeprefix("by_")) for way in (by_asyncpg, by_psycopg, by_soda)]


@pytest.fixture(scope="module")
def loaded(server: TlsServer) -> TlsServer:
    """With raw_shop.stores in the warehouse, brought by a load whose both ends are verified."""
    ends = (
        DatabaseConnection("warehouse", server.url(server.warehouse, "loader")),
        DatabaseConnection("shop", server.url(server.shop, "extractor")),
    )
    asyncio.run(load_table(*ends, declared_shop, declared_shop.table("stores")))
    return server


def address(server: TlsServer, role: str = "loader", **query: object) -> str:
    return server.url(server.warehouse, role, **query)  # type: ignore[arg-type]


def refused(way: Callable[[str, Path], None], url: str, folder: Path) -> MedallionError:
    with pytest.raises(MedallionError) as problem:
        way(url, folder)
    error = problem.value
    assert isinstance(error, ConfigurationError), error
    assert error.failure_class is FailureClass.PERMANENT, "a certificate does not become right by waiting"
    assert not error.retryable
    return error


def test_a_load_whose_both_ends_are_verified_arrives(loaded: TlsServer) -> None:
    assert rows(loaded.warehouse, "select count(*) as n from raw_shop.stores")[0]["n"] > 0


@pytest.mark.parametrize("way", WAYS)
def test_the_right_server_is_talked_to(loaded: TlsServer, way: Callable[[str, Path], None], tmp_path: Path) -> None:
    way(address(loaded), tmp_path)


@pytest.mark.parametrize("way", WAYS)
def test_a_server_of_another_authority_is_refused(
    loaded: TlsServer, way: Callable[[str, Path], None], tmp_path: Path
) -> None:
    error = refused(way, address(loaded, sslrootcert=Authority(tmp_path / "other", "another").root), tmp_path)
    assert "certificate was not accepted" in error.what
    assert "sslrootcert" in error.fix


@pytest.mark.parametrize("way", WAYS)
def test_a_server_with_a_certificate_for_another_host_is_refused(
    loaded: TlsServer, way: Callable[[str, Path], None], tmp_path: Path
) -> None:
    """Whoever holds any certificate of the authority could stand in between otherwise."""
    error = refused(way, address(loaded, host="127.0.0.1"), tmp_path)
    assert "certificate was not accepted" in error.what
    assert "host name" in str(error)


@pytest.mark.parametrize("way", WAYS)
def test_a_server_whose_certificate_has_expired_is_refused(
    loaded: TlsServer, way: Callable[[str, Path], None], tmp_path: Path
) -> None:
    with loaded.expired():
        error = refused(way, address(loaded), tmp_path)
    assert "certificate was not accepted" in error.what
    assert "expired" in error.what


@pytest.mark.parametrize("way", WAYS)
def test_a_server_without_tls_is_refused_and_is_told_no_password(
    loaded: TlsServer, warehouse: TestDatabase, way: Callable[[str, Path], None], tmp_path: Path
) -> None:
    """An attacker who says "I speak no TLS" must not be answered in the clear."""
    root = loaded.authority.root
    url = f"{warehouse.url('loader')}?sslmode=verify-full&sslrootcert={root}"
    error = refused(way, url, tmp_path)
    assert "does not offer TLS" in error.what
    assert "sslmode=disable" in error.fix


@pytest.mark.parametrize("way", WAYS)
def test_an_authority_that_is_not_there_is_told_as_such(
    loaded: TlsServer, way: Callable[[str, Path], None], tmp_path: Path
) -> None:
    error = refused(way, address(loaded, sslrootcert=tmp_path / "nowhere.crt"), tmp_path)
    assert "is missing or cannot be read" in error.what


@pytest.mark.parametrize("way", [WAYS[0], WAYS[1]])
def test_a_wrong_password_over_tls_is_a_wrong_password(
    loaded: TlsServer, way: Callable[[str, Path], None], tmp_path: Path
) -> None:
    url = address(loaded).replace(loaded.cluster.passwords["medallion_loader"], "zqguess")
    error = refused(way, url, tmp_path)
    assert "TLS" not in error.what
    assert "zqguess" not in str(error)


@pytest.mark.parametrize("way", WAYS)
def test_a_client_with_a_certificate_needs_no_password(
    loaded: TlsServer, way: Callable[[str, Path], None], tmp_path: Path
) -> None:
    certificate, key = loaded.authority.issue("by_certificate")
    with psycopg.connect(loaded.cluster.url(roles.ADMIN, loaded.warehouse.name), autocommit=True) as admin:
        admin.execute("drop role if exists by_certificate")
        admin.execute("create role by_certificate login in role medallion_loader")
        try:
            url = address(loaded, sslcert=certificate, sslkey=key)
            credentials = f"medallion_loader:{loaded.cluster.passwords['medallion_loader']}"
            way(url.replace(credentials, "by_certificate"), tmp_path)
            without = address(loaded).replace(credentials, "by_certificate")
            refused(way, without, tmp_path)
        finally:
            admin.execute("drop role by_certificate")


def test_dbt_builds_over_a_verified_connection(loaded: TlsServer, tmp_path: Path) -> None:
    """The server takes none without TLS; that dbt checks it too is seen where the authority is another."""
    project = tmp_path / "project"
    (project / "models").mkdir(parents=True)
    shutil.copy(DBT_PROJECT / "profiles.yml", project)
    (project / "dbt_project.yml").write_text("name: seen\nprofile: medallion\n")
    (project / "models/seen.sql").write_text("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
    with psycopg.connect(loaded.cluster.url(roles.ADMIN, loaded.warehouse.name)) as admin:
        admin.execute("create schema if not exists staging authorization medallion_transformer")

    def build(url: str) -> Invocation:
        return run_dbt(["run", "--full-refresh"], url=url, target=tmp_path / "target", project=project)

    built = build(address(loaded, "transformer"))
    assert built.ok, (built.problem, built.nodes)
    assert rows(loaded.warehouse, "select ssl from staging.seen") == [{"ssl": True}]
    failed = build(address(loaded, "transformer", sslrootcert=Authority(tmp_path / "other", "another").root))
    assert "certificate verify failed" in failed.problem


def test_nothing_is_sent_in_the_clear_where_the_address_says_nothing_of_tls(loaded: TlsServer) -> None:
    """asyncpg and libpq both prefer TLS and go on without it when the server has none: a silent downgrade."""
    url = DatabaseConnection("warehouse", "postgresql://ann:zqsecret@db.example.com/warehouse").url
    assert url.endswith("?sslmode=verify-full")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann@127.0.0.1/shop",
        "postgresql://ann@localhost:5432/shop?application_name=x",
        "postgresql://ann@[::1]:5432/shop",
        "postgresql:///shop?host=/var/run/postgresql",
        "postgresql://ann@127.0.0.1:5432,localhost:5433/shop",
        "postgresql://ann@/shop",
        "postgresql://ann@db.example.com/shop?sslmode=require",
        "postgresql://ann@db.example.com/shop?sslmode=disable",
        "mysql://ann@db.example.com/shop",
    ],
)
def test_addresses_on_this_machine_and_those_that_say_what_they_want_stay_as_they_are(url: str) -> None:
    assert DatabaseConnection("shop", url).url == url


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann@db.example.com/shop",
        "postgres://ann@10.0.0.5:5432/shop",
        "postgresql://ann@[2001:db8::1]:5432/shop",
        "postgresql://ann@localhost.evil.example/shop",
        "postgresql://ann@127.0.0.1:5432,db.example.com:5432/shop",
        "postgresql://ann@localhost/shop?hostaddr=10.0.0.5",
        "postgresql://ann@/shop?host=db.example.com",
        "postgresql:///shop?service=shop",
        "postgresql://ann:p%40ss@db.example.com/shop?application_name=sslmode",
    ],
)
def test_an_address_of_another_machine_is_verified_unless_it_says_otherwise(url: str) -> None:
    made = DatabaseConnection("shop", url).url
    assert made == f"{url}{'&' if '?' in url else '?'}sslmode=verify-full"


def test_a_host_from_the_environment_counts_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.example.com")
    assert "sslmode=verify-full" in DatabaseConnection("shop", "postgresql:///shop").url


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sslmode=prefer", "lets the server decide"),
        ("sslmode=allow", "lets the server decide"),
        ("sslmode=verify_full", "unknown value"),
        ("sslmode=", "unknown value"),
        ("sslmode=verify-full&sslmode=disable", "more than once"),
    ],
)
def test_an_address_that_leaves_tls_to_chance_is_refused(query: str, words: str) -> None:
    """asyncpg reads `verify_full`, libpq does not; of two values one driver takes the first and another the last."""
    with pytest.raises(ConfigurationError, match=words) as problem:
        DatabaseConnection("shop", f"postgresql://ann:zqsecret@db.example.com/shop?{query}")
    assert "verify-full" in problem.value.fix
    assert "zqsecret" not in str(problem.value)


def test_a_wait_for_a_store_ends(server: TlsServer) -> None:
    """A password that stays wrong is told as such, after the time that a rotation may take."""
    wrong = server.url(server.shop, "extractor").replace(server.cluster.passwords["medallion_extractor"], "zqguess")
    asked: list[str] = []

    def reread() -> DatabaseConnection:
        asked.append("once more")
        return DatabaseConnection("shop", wrong, reread=reread)

    async def ask() -> None:
        async with connect(reread(), side="source"):
            raise AssertionError("it cannot have been opened")

    with setting(rotation_wait_seconds=2), pytest.raises(ConfigurationError, match="28P01"):
        asyncio.run(ask())
    assert 2 <= len(asked) <= 4
    assert "zqguess" not in os.environ.get("PGPASSWORD", "")
