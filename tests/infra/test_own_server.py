"""The .sql files as README has them run on a server of one's own: by an operator who is no superuser, as providers of
managed PostgreSQL hand out."""

import secrets
from collections.abc import Iterator

import psycopg
import pytest

from infra.local.home import Home
from infra.local.postgres import Cluster
from infra.local.roles import ADMIN
from tests.conftest import ROOT, TEST_SETTINGS

PASSWORD = secrets.token_urlsafe(12)
SQL = ROOT / "infra/local"


class Server:
    """A cluster without any role of ours, and its operator."""

    def __init__(self, cluster: Cluster) -> None:
        self.port = cluster.start(admin_password=PASSWORD).port
        self._cluster = cluster
        with self.connect(ADMIN, "postgres") as admin:
            admin.execute(f"create role operator login createrole createdb password '{PASSWORD}'".encode())

    def connect(self, role: str, database: str) -> psycopg.Connection:
        url = self._cluster.url(role, PASSWORD, self.port, database)
        return psycopg.connect(url, autocommit=True)

    def follow_the_readme(self) -> list[str]:
        """The five files, and passwords. Returns what the server noticed aloud."""
        heard: list[str] = []
        with self.connect("operator", "postgres") as operator:
            operator.add_notice_handler(lambda notice: heard.append(notice.message_primary or ""))
            operator.execute((SQL / "roles.sql").read_bytes())
            if operator.execute("select from pg_database where datname = 'warehouse'").fetchone() is None:
                operator.execute("create database warehouse")
            for role in ("medallion_loader", "medallion_transformer", "medallion_reader", "medallion_reviewer"):
                operator.execute(f"alter role {role} password '{PASSWORD}'".encode())
        with self.connect("operator", "warehouse") as operator:
            operator.add_notice_handler(lambda notice: heard.append(notice.message_primary or ""))
            operator.execute((SQL / "roles_warehouse.sql").read_bytes())
            operator.execute((SQL / "roles_reviewer.sql").read_bytes())
            operator.execute((SQL / "roles_dashboard.sql").read_bytes())
            operator.execute((SQL / "roles_guard.sql").read_bytes())
        return [line for line in heard if "already exists" not in line]


@pytest.fixture
def server(home: Home) -> Iterator[Server]:
    cluster = Cluster(home.postgres, TEST_SETTINGS)
    try:
        yield Server(cluster)
    finally:
        cluster.stop()


def test_an_operator_who_is_no_superuser_furnishes_a_warehouse(server: Server) -> None:
    heard = server.follow_the_readme()

    assert heard == [
        "temp_file_limit of medallion_reader could not be set by operator",
        "temp_file_limit of medallion_reviewer could not be set by operator",
        "temp_file_limit of medallion_dashboard could not be set by operator",
        "pg_use_reserved_connections could not be granted by operator",
        "pg_read_all_stats could not be granted by operator",
        "event triggers could not be created by operator",
    ]
    with server.connect("medallion_loader", "warehouse") as loader:
        loader.execute((ROOT / "flows/state/schema.sql").read_bytes())
        loader.execute("create schema raw_shop")
        loader.execute("create table raw_shop.baskets as select 1 as basket_id")
    with server.connect("medallion_transformer", "warehouse") as transformer:
        transformer.execute("create table gold.baskets as select * from raw_shop.baskets")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            transformer.execute("create table landing.mine (id int)")
    with server.connect("medallion_reader", "warehouse") as reader:
        assert reader.execute("select * from gold.baskets").fetchall() == [(1,)]
    with server.connect("medallion_reviewer", "warehouse") as reviewer:
        reviewer.execute("select reviews.open_schema('pr_1__gold')")
        reviewer.execute(
            "create table pr_1__gold.baskets as select * from gold.baskets union select * from raw_shop.baskets"
        )
        assert reviewer.execute("select reviews.close_schemas('pr_1__')").fetchall() == [("pr_1__gold",)]


def test_running_the_files_again_changes_nothing(server: Server) -> None:
    members = """
        select roleid::regrole::text, member::regrole::text, grantor::regrole::text,
            admin_option, inherit_option, set_option
        from pg_auth_members order by 1, 2, 3
    """
    server.follow_the_readme()
    with server.connect(ADMIN, "warehouse") as admin:
        first = admin.execute(members).fetchall()
        server.follow_the_readme()
        assert admin.execute(members).fetchall() == first


def test_a_superuser_gets_no_membership_and_the_demos_application_no_role(server: Server) -> None:
    with server.connect(ADMIN, "postgres") as admin:
        admin.execute((SQL / "roles.sql").read_bytes())
        admin.execute((SQL / "roles_warehouse.sql").read_bytes())
        admin.execute((SQL / "roles_reviewer.sql").read_bytes())
        admin.execute((SQL / "roles_guard.sql").read_bytes())
        found = admin.execute(
            "select (select count(*) from pg_auth_members where member = %s::regrole), "
            "(select count(*) from pg_roles where rolname = 'shop_app')",
            [ADMIN],
        ).fetchone()
    assert found == (0, 0)
