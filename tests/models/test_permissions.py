"""Permissions survive releases and rollbacks: the successor has what the predecessor had, or there is no successor."""

import asyncio
import threading
from collections.abc import Iterator

import psycopg
import pytest

from flows.values.errors import ConfigurationError
from infra.local.roles import grant_warehouse
from tests.conftest import TestDatabase
from tests.models import shadowing
from tests.models.permissions import BY_HAND, permissions
from tests.models.shadowing import build_beside, build_in_place, transformer
from tests.publish.two_ends import run_sql


@pytest.fixture
def shared(warehouse: TestDatabase) -> TestDatabase:
    build_in_place(warehouse, 1)
    run_sql(warehouse.url("transformer"), BY_HAND)
    run_sql(warehouse.url("transformer"), "insert into rights.seen values (2)")
    return warehouse


def release(shared: TestDatabase, number: int) -> None:
    asyncio.run(shadowing.release(transformer(shared), number))


def test_a_release_and_its_rollback_leave_every_permission_as_it_was(shared: TestDatabase) -> None:
    before = permissions(shared, "gold", "silver")
    build_beside(shared, 2)
    assert permissions(shared, "next__gold")["next__gold.f"] != before["gold.f"], "nothing would be shown"

    release(shared, 2)

    assert permissions(shared, "gold", "silver") == before
    asyncio.run(shadowing.roll_back(transformer(shared)))
    assert permissions(shared, "gold", "silver") == before


def test_readers_see_the_rows_and_columns_of_the_release_that_they_saw_before(shared: TestDatabase) -> None:
    reader = shared.url("reader")
    assert run_sql(reader, "select * from gold.f") == []
    build_beside(shared, 2)
    release(shared, 2)
    assert run_sql(reader, "select release from gold.f") == [(2,)]
    assert run_sql(reader, "select distinct release from gold.b") == [(2,)]
    for denied in ("gold.a", "gold.f_p1"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run_sql(reader, f"select * from {denied}")


def test_what_was_granted_and_revoked_since_the_release_survives_its_rollback(shared: TestDatabase) -> None:
    build_beside(shared, 2)
    release(shared, 2)
    for statement in (
        "grant select on gold.a to medallion_reader",
        "revoke select on gold.a from medallion_dashboard",
        "drop policy few on gold.f",
        "create policy later on gold.f for select to medallion_reader using (sold_on > '2026-01-01')",
        "alter table silver.s enable row level security",
        "alter view gold.v reset (security_barrier)",
        "grant usage on schema gold to medallion_reviewer",
        "revoke usage on schema silver from medallion_dashboard",
        "alter default privileges in schema gold revoke select on tables from medallion_reader",
        "alter default privileges in schema gold grant insert on tables to medallion_reviewer",
    ):
        run_sql(shared.url("transformer"), statement)
    before = permissions(shared, "gold", "silver")

    asyncio.run(shadowing.roll_back(transformer(shared)))

    assert run_sql(shared.url("reader"), "select distinct release from gold.a") == [(1,)]
    assert permissions(shared, "gold", "silver") == before


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        # These go with the former release when it is dropped.
        (
            "create policy by_b on gold.a using (exists (select from gold.b where b.release = a.release))",
            "gold.a: the policy by_b reads table gold.b",
        ),
        (
            "create function gold.mine() returns boolean stable return true;"
            "create policy by_function on gold.a using (gold.mine())",
            r"gold.a: the policy by_function reads function gold.mine\(\)",
        ),
        # These the successor cannot have.
        (
            "alter table gold.gone enable row level security",
            "gold.gone cannot be kept: there is no row-level security for a view",
        ),
        (
            "create policy by_column on gold.b using (release > 0 and former)",
            "gold.b cannot be kept: column .*former.* does not exist",
        ),
        ("alter default privileges in schema gold grant insert on tables to medallion_dashboard", "default privileges"),
    ],
)
def test_a_release_that_cannot_keep_a_permission_is_refused_by_its_name(
    shared: TestDatabase, statement: str, named: str
) -> None:
    run_sql(shared.url("transformer"), "create table gold.gone (id integer)")
    run_sql(shared.url("transformer"), "alter table gold.b add column former boolean")
    build_beside(shared, 2)
    run_sql(shared.url("transformer"), "create view next__gold.gone as select 1 as id")
    for part in statement.split(";"):
        run_sql(shared.url("transformer"), part)
    before = permissions(shared, "gold")

    with pytest.raises(ConfigurationError, match=named) as refused:
        release(shared, 2)

    assert not refused.value.retryable
    assert permissions(shared, "gold") == before
    assert run_sql(shared.url("transformer"), "select distinct release from gold.a") == [(1,)]


def test_the_files_of_roles_run_again_give_nothing_back_that_was_revoked(shared: TestDatabase) -> None:
    """Each `medallion up` runs them."""
    for statement in (
        "revoke select on gold.v from medallion_reader",
        "revoke select on gold.v from medallion_dashboard",
        "revoke select on silver.s from medallion_reviewer",
        "alter default privileges in schema gold revoke select on tables from medallion_reader",
    ):
        run_sql(shared.url("transformer"), statement)
    before = permissions(shared, "gold", "silver")
    with psycopg.connect(shared.url("admin")) as admin:
        grant_warehouse(admin)
    assert permissions(shared, "gold", "silver") == before


@pytest.fixture
def steward(shared: TestDatabase) -> Iterator[str]:
    name = f"steward_of_{shared.name}"
    with psycopg.connect(shared.url("admin"), autocommit=True) as admin:
        admin.execute(f"create role {name}".encode())
        yield name
        admin.execute(f"drop owned by {name} cascade".encode())
        admin.execute(f"revoke {name} from medallion_transformer; drop role {name}".encode())


def test_a_table_that_somebody_else_owns_keeps_its_owner_or_is_not_replaced(shared: TestDatabase, steward: str) -> None:
    with psycopg.connect(shared.url("admin"), autocommit=True) as admin:
        admin.execute(f"alter table gold.a owner to {steward}".encode())
        build_beside(shared, 2)
        with pytest.raises(
            ConfigurationError, match=r"gold\.a: it is owned by a role that medallion_transformer is not"
        ):
            release(shared, 2)
        admin.execute(f"grant {steward} to medallion_transformer".encode())
        admin.execute(f"grant create, usage on schema next__gold to {steward}".encode())
    before = permissions(shared, "gold")
    release(shared, 2)
    assert permissions(shared, "gold")["gold.a"] == before["gold.a"]


def test_a_security_label_whose_provider_is_not_there_is_not_lost(shared: TestDatabase) -> None:
    """A label needs the provider's library; the row in the catalog is what it leaves."""
    build_beside(shared, 2)
    run_sql(
        shared.url("admin"),
        "insert into pg_seclabel values ('gold.a'::regclass, 'pg_class'::regclass, 0, 'masks', 'MASKED')",
    )
    with pytest.raises(ConfigurationError, match=r"gold\.a cannot be kept: security label of provider masks"):
        release(shared, 2)


def test_a_grant_made_while_the_release_waits_for_readers_is_not_lost(shared: TestDatabase) -> None:
    build_beside(shared, 2)
    releasing = threading.Thread(target=release, args=(shared, 2))
    with psycopg.connect(shared.url("reader")) as reader:
        reader.execute("select release from gold.b")
        releasing.start()
        with psycopg.connect(shared.url("admin"), autocommit=True) as admin:
            # The successor has been given the predecessor's permissions; from now on it waits for the reader.
            while not admin.execute("select 1 from pg_policies where schemaname = 'next__gold'").fetchone():
                assert releasing.is_alive()
            admin.execute("set role medallion_transformer")
            admin.execute("grant select on gold.a to medallion_reader")
            admin.execute("revoke select on gold.m from public")
        reader.commit()
    releasing.join()
    assert run_sql(shared.url("reader"), "select distinct release from gold.a") == [(2,)]
    (acl,) = run_sql(shared.url("transformer"), "select relacl::text from pg_class where oid = 'gold.m'::regclass")[0]
    assert ",=r" not in acl
