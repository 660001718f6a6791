"""Two sessions of a role that only reads against everybody else: one reads a table, one waits for its strongest lock.

`create rule` asks for the lock first and whether it may afterwards, and whoever comes later waits behind it. All of it
is done for real here; the controls show that it works where our grants and event triggers are taken away.
"""

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from flows.access.addresses import connect
from flows.state import dbt_manifests, ledger
from tests.conftest import TestCluster, TestDatabase, fresh_warehouse
from tests.infra.test_roles import furnish
from tests.kinds.loading import at
from tests.publish.two_ends import run_sql

RULE = "create rule trap as on insert to {} do instead nothing"
TABLES = "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname = 'ops' order by 1"


@pytest.fixture(scope="module")
def guarded(cluster: TestCluster) -> Iterator[TestDatabase]:
    with fresh_warehouse(cluster) as database:
        furnish(database)
        prepare_review(database)
        yield database


@pytest.fixture(scope="module")
def unguarded(cluster: TestCluster) -> Iterator[TestDatabase]:
    """As an operator makes it who may not create event triggers."""
    with fresh_warehouse(cluster) as database:
        run_sql(database.url("admin"), "drop schema guard cascade; grant usage on language plpgsql to public")
        furnish(database)
        prepare_review(database)
        run_sql(database.url("reviewer"), "create table pr_1__gold.parts (id int) partition by list (id)")
        yield database


def prepare_review(database: TestDatabase) -> None:
    run_sql(database.url("loader"), "alter table raw_shop.baskets add primary key (id)")
    run_sql(database.url("reviewer"), "select reviews.open_schema('pr_1__gold')")
    run_sql(database.url("reviewer"), "create table pr_1__gold.mine (id int)")


def attack(
    database: TestDatabase, role: str, ask: str, victim: tuple[str, str], hold: str = "select"
) -> tuple[str | None, str | None]:
    """What becomes of the statement that waits, and of the victim's (role, statement): SQLSTATEs, None for success."""
    answers: list[str | None] = []
    with (
        psycopg.connect(database.url(role)) as holder,
        psycopg.connect(database.url(role), autocommit=True) as asker,
        psycopg.connect(database.url(victim[0])) as other,  # before pg_class is locked: nobody can connect then
    ):
        asker.execute("set lock_timeout = 0")  # any session may
        other.execute("set lock_timeout = '1s'")
        if hold != "select":
            holder.execute(hold.encode())
        else:
            holder.execute("select count(*) from pg_class")
            for table in ("raw_shop.baskets", "gold.baskets"):
                allowed = holder.execute("select has_schema_privilege(%s, 'usage')", [table.split(".")[0]]).fetchone()
                if allowed == (True,):
                    holder.execute(f"select * from {table}".encode())
        waiting = threading.Thread(target=lambda: answers.append(outcome(asker, ask)))
        waiting.start()
        until = time.monotonic() + 10
        while not answers and time.monotonic() < until and not is_waiting(database, asker.info.backend_pid):
            time.sleep(0.02)
        suffered = outcome(other, victim[1])
        other.rollback()
        holder.rollback()
        waiting.join(timeout=20)
    return answers[0], suffered


def outcome(session: psycopg.Connection, statement: str) -> str | None:
    try:
        session.execute(statement.encode())
    except psycopg.Error as problem:
        return problem.sqlstate
    return None


def is_waiting(database: TestDatabase, pid: int) -> bool:
    # Asked from another database: in this one nobody may be able to look into pg_class.
    found = database.cluster.connection.execute("select from pg_locks where pid = %s and not granted", [pid])
    return found.fetchone() is not None


# -- operations: no right to name a table, so nothing to queue for


def test_the_reviewer_queues_for_no_table_of_operations(unguarded: TestDatabase) -> None:
    """Even without event triggers: the schema itself is closed."""
    tables = [name for (name,) in run_sql(unguarded.url("admin"), TABLES)]
    assert len(tables) > 15
    for table in tables:
        for statement in (
            RULE.format(table), f"select * from {table}", f"prepare held as delete from {table}",
            f"create table pr_1__gold.tied (id int references {table})",
            f"alter table pr_1__gold.parts attach partition {table} default",
        ):  # fmt: skip
            with psycopg.connect(unguarded.url("reviewer")) as reviewer:
                assert outcome(reviewer, statement) == "42501", statement


def test_a_role_with_usage_on_operations_would_stop_every_load(unguarded: TestDatabase) -> None:
    """The control: what the grants of before allowed."""
    insert = ("loader", "insert into ops.runs (pipeline) values ('ingest')")
    rule, hold = RULE.format("ops.runs"), "select * from ops.runs"
    run_sql(unguarded.url("admin"), "grant usage on schema ops to medallion_reviewer")
    run_sql(unguarded.url("admin"), "grant select on all tables in schema ops to medallion_reviewer")
    try:
        assert attack(unguarded, "reviewer", rule, insert, hold) == ("42501", "55P03")
    finally:
        run_sql(unguarded.url("admin"), "revoke usage on schema ops from medallion_reviewer")


async def test_a_review_learns_what_it_needs_by_functions(warehouse: TestDatabase) -> None:
    """Build, manifest and changed tables are those that the transformer reads from the tables."""
    async with connect(at(warehouse, "loader"), side="warehouse") as loader:
        run = await loader.fetchval("insert into ops.runs (pipeline) values ('transform') returning run_id")
        await loader.execute(
            "insert into ops.loads (run_id, source_system, table_name, strategy, status, rows_read, rows_inserted, "
            "rows_updated, rows_unchanged, rows_deduplicated, rows_quarantined, finished_at) "
            "values ($1, 'shop', 'baskets', 'merge', 'published', 1, 1, 0, 0, 0, 0, clock_timestamp())",
            run,
        )
        await dbt_manifests.keep_manifest(loader, run, b'{"nodes": {}}')
    told = []
    for role in ("transformer", "reviewer"):
        async with connect(at(warehouse, role), side="warehouse") as connection:
            build = await dbt_manifests.newest_build(connection)
            assert build is not None
            text = await dbt_manifests.read_manifest(connection, build.run_id)
            changed = await dbt_manifests.tables_changed_since(connection, build.started_at)
            with pytest.raises(LookupError):
                await dbt_manifests.read_manifest(connection, run + 1)
            told.append((build, text, changed))
    assert told[0] == told[1]
    assert (told[1][1], told[1][2]) == (b'{"nodes": {}}', ["shop.baskets"])


async def test_a_schema_of_operations_made_by_the_loader_is_closed_to_reviews(warehouse: TestDatabase) -> None:
    """The loader's new schemas are open to them by default, because raw schemas are made so."""
    run_sql(warehouse.url("admin"), "drop schema ops, landing cascade")
    async with connect(at(warehouse, "loader"), side="warehouse") as loader:
        await loader.execute("create schema ops")
        assert await loader.fetchval("select has_schema_privilege('medallion_reviewer', 'ops', 'usage')")
        await ledger.ensure_schema(loader)
        for schema in ("ops", "landing"):
            may = await loader.fetchval("select has_schema_privilege('medallion_reviewer', $1, 'usage')", schema)
            assert not may, schema
    async with connect(at(warehouse, "reviewer"), side="warehouse") as reviewer:
        assert await dbt_manifests.newest_build(reviewer) is None


# -- all other tables: nothing is defined by roles that read

CATALOG = ("loader", "create table landing.made (id int)")
RAW = ("loader", "insert into raw_shop.baskets values (1)")
GOLD = ("transformer", "insert into gold.baskets values (1)")
ATTACKS = [
    ("reader", RULE.format("pg_catalog.pg_class"), CATALOG, "select"),
    ("reader", RULE.format("gold.baskets"), GOLD, "select"),
    ("reader", "create trigger trap before insert on gold.baskets for each row "
     "execute function suppress_redundant_updates_trigger()", GOLD, "prepare held as delete from gold.baskets"),
    ("reviewer", RULE.format("pg_catalog.pg_class"), CATALOG, "select"),
    ("reviewer", RULE.format("raw_shop.baskets"), RAW, "select"),
    ("reviewer", "do $$ begin execute '' || " + f"'{RULE.format('raw_shop.baskets')}'" + "; end $$", RAW, "select"),
    ("reviewer", "create table pr_1__gold.tied (id int references raw_shop.baskets)", RAW,
     "prepare held as delete from raw_shop.baskets"),
    ("reviewer", "alter table pr_1__gold.mine add foreign key (id) /**/references raw_shop.baskets", RAW,
     "prepare held as delete from raw_shop.baskets"),
]  # fmt: skip


@pytest.mark.parametrize(("role", "ask", "victim", "hold"), ATTACKS)
def test_roles_that_read_queue_for_no_strong_lock(
    guarded: TestDatabase, role: str, ask: str, victim: tuple[str, str], hold: str
) -> None:
    assert attack(guarded, role, ask, victim, hold) == ("42501", None)


@pytest.mark.parametrize(("role", "ask", "victim", "hold"), ATTACKS)
def test_without_event_triggers_they_would(
    unguarded: TestDatabase, role: str, ask: str, victim: tuple[str, str], hold: str
) -> None:
    """The control: what is refused above really is an attack."""
    assert attack(unguarded, role, ask, victim, hold)[1] == "55P03"


def test_a_partitioned_table_by_which_another_could_be_locked_is_not_created(
    guarded: TestDatabase, unguarded: TestDatabase
) -> None:
    with psycopg.connect(guarded.url("reviewer")) as reviewer:
        assert outcome(reviewer, "create table pr_1__gold.parts (id int) partition by list (id)") == "42501"
    attach = "alter table pr_1__gold.parts attach partition raw_shop.baskets default"
    assert attack(unguarded, "reviewer", attach, RAW) == ("42501", "55P03")


@pytest.mark.parametrize("statement", [
    "create table pr_1__gold.built as select * from raw_shop.baskets",
    "select * into pr_1__gold.built from raw_shop.baskets",
    "create table pr_1__gold.built (id int primary key, check (id > 0)); comment on table pr_1__gold.built is 'x'",
    "create view pr_1__gold.seen as select * from gold.baskets; alter view pr_1__gold.seen rename to looked_at",
    "create temporary table held as select 1 as id",
    "create index on pr_1__gold.mine (id); alter table pr_1__gold.mine rename to yours; drop table pr_1__gold.yours",
    "create materialized view pr_1__gold.kept as select 1 as id; refresh materialized view pr_1__gold.kept",
])  # fmt: skip
def test_what_dbt_builds_is_built(guarded: TestDatabase, statement: str) -> None:
    with psycopg.connect(guarded.url("reviewer")) as reviewer:
        assert outcome(reviewer, statement) is None
        reviewer.rollback()


def test_roles_that_write_define_what_they_like(guarded: TestDatabase) -> None:
    with psycopg.connect(guarded.url("loader")) as loader:
        assert outcome(loader, RULE.format("raw_shop.baskets")) is None
        loader.rollback()
