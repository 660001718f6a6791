"""Passwords change while all goes on: what runs finishes, what begins uses the new one, a kill locks none out."""

import asyncio
import contextvars
import json
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import psycopg
import pytest
from prefect.blocks.core import Block
from psycopg import sql
from pydantic import SecretStr

from blocks.types import Warehouse
from deployments.documents import register
from flows.access import addresses
from flows.access.addresses import connect
from flows.access.rotation import rotate_block
from flows.failures.failpoints import ROTATION_FAILPOINTS
from flows.sources.shop import shop as declared_shop
from flows.values.connection import DatabaseConnection
from flows.values.errors import ConfigurationError, LoadLocked
from flows.values.settings import settings
from flows.verbs.load import load_table
from infra.local import accounts, roles
from infra.local.home import Home, read_json
from infra.local.postgres import Cluster
from infra.local.postmaster import Postmaster
from infra.local.stack import PostgresAddress, PrefectAddress, Stack, rotate
from tests.blocks.test_aws import as_rotation_writes_it, put
from tests.conftest import TestCluster, TestDatabase, fastest_folder
from tests.kinds.conformance import forking
from tests.kinds.loading import rows, setting
from tests.moto_aws import Aws, aws, moto  # noqa: F401 - fixtures

pytestmark = pytest.mark.xdist_group("blocks")


@pytest.fixture
def account(cluster: TestCluster, warehouse: TestDatabase) -> Iterator[str]:
    """A role of this test's own with the loader's rights, so that its password's change disturbs nobody."""
    name = f"rotated_{secrets.token_hex(4)}"
    cluster.connection.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))
    cluster.connection.execute(sql.SQL("grant medallion_loader to {}").format(sql.Identifier(name)))
    yield name
    with psycopg.connect(warehouse.url("admin"), autocommit=True) as admin:
        for made in (f"{name}_clone", name):
            if admin.execute("select from pg_roles where rolname = %s", [made]).fetchone():
                admin.execute(sql.SQL("drop owned by {} cascade").format(sql.Identifier(made)))
                admin.execute(sql.SQL("drop role {}").format(sql.Identifier(made)))


def set_password(cluster: TestCluster, account: str, password: str) -> None:
    cluster.connection.execute(
        sql.SQL("alter role {} password {}").format(sql.Identifier(account), sql.Literal(password))
    )


@contextmanager
def block(warehouse: TestDatabase, account: str, password: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The block `warehouse` with the account's address for all roles."""
    monkeypatch.setenv("MEDALLION_ADMIN_URL", warehouse.url("admin"))
    settings.cache_clear()
    register()
    url = SecretStr(warehouse.cluster.url("medallion_loader", warehouse.name).replace(
        f"medallion_loader:{warehouse.cluster.passwords['medallion_loader']}", f"{account}:{password}"))  # fmt: skip
    Warehouse(loader=url, transformer=url, reader=None).save("warehouse", overwrite=True, _sync=True)  # type: ignore[call-arg]
    try:
        yield
    finally:
        Block.delete("medallion-warehouse/warehouse", _sync=True)  # type: ignore[call-arg]
        settings.cache_clear()


async def who(role: addresses.Role = "loader") -> tuple[str, str]:
    async with connect(addresses.warehouse(role), side="warehouse") as connection:
        row = await connection.fetchrow("select session_user::text as account, current_user::text as role")
    assert row is not None
    return row["account"], row["role"]


def test_a_block_is_rotated_back_and_forth_and_who_is_at_work_is_not_disturbed(
    prefect_server: str, warehouse: TestDatabase, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long build opens a connection for each model, minutes after it began: its account must go on working."""
    set_password(warehouse.cluster, account, "first")
    with block(warehouse, account, "first", monkeypatch):
        before = addresses.warehouse("loader")
        assert asyncio.run(who()) == (account, account)
        done = rotate_block("loader", now=False)
        assert (done.account, done.former) == (f"{account}_clone", account)
        assert asyncio.run(who()) == (f"{account}_clone", account), "it acts as the role, so it owns what the role owns"
        assert asyncio.run(who("transformer"))[0] == f"{account}_clone", "theirs is the same account"
        with pytest.raises(ConfigurationError, match="for readers is not configured"):
            addresses.warehouse("reader")
        with psycopg.connect(before.url) as at_work:
            at_work.execute("select 1")
        assert rotate_block("loader", now=False).account == account
        assert asyncio.run(who()) == (account, account)
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            psycopg.connect(before.url)


def test_rotations_at_once_take_turns_and_leave_addresses_that_work(
    prefect_server: str, warehouse: TestDatabase, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two would each give the idle account a password, and the address would keep the one that counts no more."""
    set_password(warehouse.cluster, account, "first")
    with block(warehouse, account, "first", monkeypatch):
        before = addresses.warehouse("loader")
        with ThreadPoolExecutor(4) as pool:
            # Prefect knows its server by the context.
            roles_in_turn: list[addresses.Role] = ["loader", "transformer", "loader", "transformer"]
            turns = [
                pool.submit(contextvars.copy_context().run, partial(rotate_block, role, now=False))
                for role in roles_in_turn
            ]
            accounts = [turn.result().account for turn in turns]
        assert sorted(accounts) == [account, account, f"{account}_clone", f"{account}_clone"]
        assert asyncio.run(who("loader")) == (account, account)
        assert asyncio.run(who("transformer")) == (account, account)
        assert addresses.warehouse("loader").url != before.url


def test_a_rotation_does_not_wait_for_ever(
    prefect_server: str, warehouse: TestDatabase, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_password(warehouse.cluster, account, "first")
    with (
        block(warehouse, account, "first", monkeypatch),
        setting(lock_wait_seconds=1),
        psycopg.connect(warehouse.url("admin"), dbname="postgres", autocommit=True) as other,
    ):
        other.execute("select pg_advisory_lock(20170103, 0)")
        with pytest.raises(LoadLocked, match="another rotation"):
            rotate_block("loader", now=False)


def test_a_password_in_wrong_hands_ends_at_once(
    prefect_server: str, warehouse: TestDatabase, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_password(warehouse.cluster, account, "stolen")
    with block(warehouse, account, "stolen", monkeypatch):
        stolen = addresses.warehouse("loader").url
        rotate_block("loader", now=True)
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            psycopg.connect(stolen)
        assert asyncio.run(who())[0] == f"{account}_clone"


def test_a_load_that_meets_the_moment_between_database_and_block_waits_for_the_block(
    prefect_server: str, warehouse: TestDatabase, shop: TestDatabase, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever rotates by hand changes one after the other; in between the password that is known is wrong."""
    set_password(warehouse.cluster, account, "first")
    with block(warehouse, account, "first", monkeypatch), setting(rotation_wait_seconds=20):
        address = addresses.warehouse("loader")
        set_password(warehouse.cluster, account, "second")
        url = SecretStr(address.url.replace(":first@", ":second@"))

        def late() -> None:
            time.sleep(1.5)
            Warehouse(loader=url, transformer=url, reader=None).save("warehouse", overwrite=True, _sync=True)  # type: ignore[call-arg]

        # Prefect knows its server by the context.
        keeper = threading.Thread(target=contextvars.copy_context().run, args=(late,))
        keeper.start()
        source = DatabaseConnection("shop", shop.url("extractor"))
        try:
            asyncio.run(load_table(address, source, declared_shop, declared_shop.table("stores")))
        finally:
            keeper.join()
        assert addresses.transformer().url == url.get_secret_value()
    assert len(rows(warehouse, "select from raw_shop.stores")) == 5


def test_secrets_manager_is_asked_again_when_a_password_is_refused(
    aws: Aws,  # noqa: F811
    warehouse: TestDatabase,
    account: str,
) -> None:
    """Rotation sets the password in the database before it makes the secret's new version the current one."""
    set_password(warehouse.cluster, account, "first")
    put(aws, "warehouse-loader", as_rotation_writes_it(warehouse, account, "first"))
    address = addresses.warehouse("loader")
    set_password(warehouse.cluster, account, "second")
    put(aws, "warehouse-loader", as_rotation_writes_it(warehouse, account, "second"))

    async def ask() -> str:
        async with connect(address, side="warehouse") as connection:
            return str(await connection.fetchval("select session_user"))

    assert asyncio.run(ask()) == account


def test_an_address_of_the_environment_is_left_to_its_keeper(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", warehouse.url("loader"))
    settings.cache_clear()
    with pytest.raises(ConfigurationError, match="the environment"):
        rotate_block("loader", now=False)
    settings.cache_clear()


@pytest.fixture(scope="module")
def embedded() -> Iterator[Home]:
    """The part of an embedded stack that rotation touches: its PostgreSQL and both files. Prefect does not boot."""
    from pathlib import Path
    from shutil import rmtree
    from tempfile import mkdtemp

    root = Path(mkdtemp(prefix="mds-", dir=fastest_folder()))
    root.chmod(0o711)
    found = Home(root / ".medallion")
    found.prepare(min_free_bytes=0)
    cluster = Cluster(found.postgres)
    from infra.local import stack

    passwords = accounts.credentials_of(found)
    postmaster = cluster.start(admin_password=passwords[roles.ADMIN])
    accounts.apply_roles(cluster, postmaster, passwords)
    urls = {name: cluster.url(role, passwords[role], postmaster.port, database)
            for name, (role, database) in stack._URLS.items()}  # fmt: skip
    address = PostgresAddress(postmaster.port, postmaster.pid, str(cluster.data))
    Stack(str(found.root), address, urls, PrefectAddress("", "", 0, "")).save(found)
    yield found
    cluster.stop()
    rmtree(root, ignore_errors=True)


def loader_url(home: Home) -> str:
    return str(json.loads(home.stack_file.read_text())["urls"]["warehouse_loader"])


def test_the_embedded_stack_rotates_and_a_kill_at_any_step_leaves_addresses_that_work(embedded: Home) -> None:
    for failpoint in (*ROTATION_FAILPOINTS, ""):
        before = loader_url(embedded)
        died = forking.run("tests.access.one_rotation", [str(embedded.root)], {"MEDALLION_FAILPOINT": failpoint})
        assert died.returncode == (-signal.SIGKILL if failpoint else 0), died.stderr
        for url in {before, loader_url(embedded)} if failpoint else {loader_url(embedded)}:
            with psycopg.connect(url) as connection:
                row = connection.execute("select current_user").fetchone()
            assert row == ("medallion_loader",), failpoint
        assert embedded.stack_file.stat().st_mode & 0o077 == 0
        assert embedded.credentials_file.stat().st_mode & 0o077 == 0
    assert rotate("loader", now=True, home=embedded).account != rotate("loader", home=embedded).account


def test_what_up_writes_after_a_rotation_is_the_account_in_use(embedded: Home) -> None:
    """`up` makes the addresses of the passwords that are kept, and gives roles those passwords again."""

    with psycopg.connect(loader_url(embedded)) as connection:
        row = connection.execute("select session_user").fetchone()
    assert row is not None
    done = rotate("loader", home=embedded)
    assert done.former == row[0]
    kept = {name: str(value) for name, value in (read_json(embedded.credentials_file) or {}).items()}
    at = Stack.load(embedded).postgres
    accounts.apply_roles(Cluster(embedded.postgres), Postmaster(at.pid, at.port), kept)
    user, password = accounts.login("medallion_loader", kept)
    assert user == done.account
    psycopg.connect(Cluster(embedded.postgres).url(user, password, at.port, "warehouse")).close()


def test_up_gives_an_account_in_use_the_password_that_is_kept_although_the_cluster_knows_a_later_one(
    embedded: Home,
) -> None:
    """As after a recovery to the end of the log: the file of passwords is as old as the backup."""
    kept = {name: str(value) for name, value in (read_json(embedded.credentials_file) or {}).items()}
    while accounts.login("medallion_loader", kept)[0] == "medallion_loader":
        rotate("loader", home=embedded)
        kept = {name: str(value) for name, value in (read_json(embedded.credentials_file) or {}).items()}
    for _ in range(2):
        rotate("loader", home=embedded)
    cluster, at = Cluster(embedded.postgres), Stack.load(embedded).postgres
    user, password = accounts.login("medallion_loader", kept)
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(cluster.url(user, password, at.port, "warehouse"))

    accounts.apply_roles(cluster, Postmaster(at.pid, at.port), kept)

    psycopg.connect(cluster.url(user, password, at.port, "warehouse")).close()
