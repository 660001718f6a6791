"""Unique values in every personal field, in the shape each source sends: erased, searched for in every place there is,
sent again by every way there is, and restored.

The searches below use none of the code under test, but for the control: a place that an erasure forgets fails the test.
"""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from flows.privacy import erase as erasing
from flows.privacy.again import erase_again
from flows.privacy.elsewhere import Elsewhere
from flows.privacy.erase import Erasure, erase
from flows.privacy.kept_log import FILE
from flows.privacy.places import Place
from flows.privacy.returned import erase_returned_since_last_build
from flows.privacy.rows import Found, delete_rows
from flows.values.connection import DatabaseConnection
from flows.values.settings import settings
from tests.conftest import PREFECT_OF_THE_RUN, TestCluster, TestDatabase, copy_of, prefect_database
from tests.kinds.everywhere import tables_with
from tests.kinds.loading import change, load, rows
from tests.nightly import chosen
from tests.privacy.one_household import HOUSEHOLD, KEY, WORDS, reached

#: What is unique to the person: values of identifying fields, in the forms that sources, models and texts have.
UNIQUE = ("Zqquark", "zqquark.zero@example.com", "15135550177")
PLACES = (
    "raw_marketing.redemptions", "previous__gold.keyed", "raw_shop.households", "landing.marketing__redemptions__w",
    "quarantine.rows", "dev_ann__silver.household", "shadow__gold.keyed", "snapshots.households_snapshot", "ops.alerts",
)  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(settings(), "home", tmp_path)
    return tmp_path


@pytest.fixture
def world(held: TestDatabase, shop: TestDatabase, home: Path) -> TestDatabase:
    """The household in every place of the warehouse, and in statistics of every table."""
    email = WORDS[1]
    with psycopg.connect(held.url("loader"), autocommit=True) as loader:
        # As the API sends them, on their way, refused, and in quarantine with a fix by hand.
        loader.execute("create table raw_marketing.campaign_targets (id text, payload jsonb, _batch_id bigint)")
        loader.execute("create table raw_marketing.redemptions (id bigint, payload jsonb, _batch_id bigint)")
        for n, table in enumerate(("campaign_targets", "redemptions")):
            for household in (5, 6):
                loader.execute(
                    f"insert into raw_marketing.{table} values (%s, %s, 1)".encode(),
                    [n + household, json.dumps({"id": n, "campaign": {"id": 5}, "household": {"id": household}})],
                )
            loader.execute(
                f"create table landing.marketing__{table}__w as select * from raw_marketing.{table}".encode()
            )
        record = json.dumps({"id": "26-5", "household": {"id": "5"}})
        (number,) = loader.execute(
            "insert into quarantine.rows (batch_id, source_system, table_name, row_key, rule, row_data, row_hash) "
            "values (1, 'marketing', 'redemptions', '{\"id\": 1}', 'r', %s, 'h') returning quarantine_id",
            [record],
        ).fetchone() or (0,)
        loader.execute(
            "insert into quarantine.fixes (quarantine_id, row_data, changed, reason, fixed_by) values (%s, %s, '{}', "
            "%s, 'ada')",
            [number, record, f"{email} called"],
        )
        # What operations say.
        loader.execute(
            "insert into ops.alerts (name, subject, cause, severity, what, fix) values ('a', 's', %s, 'error', %s, %s)",
            [f"of {email}"] * 3,
        )
        loader.execute("update ops.loads set error = %s where batch_id = 1", [f"row of {WORDS[0]}"])
    with psycopg.connect(held.url("transformer"), autocommit=True) as transformer:
        for schema in (
            "shadow__gold",
            "previous__gold",
            "test_failures",
            "dev_ann__test_failures",
            "silver_quarantine",
        ):
            transformer.execute(f"create schema if not exists {schema}".encode())
            transformer.execute(f"create table {schema}.kept as select email, full_name from silver.household".encode())
            transformer.execute(
                f"create table {schema}.keyed as select household_id as x, * from silver.household".encode()
            )
    for role in ("loader", "transformer"):
        with psycopg.connect(held.url(role), autocommit=True) as connection:
            connection.execute("set client_min_messages = error; analyze")
    return held


def forget(elsewhere: Elsewhere | None = None) -> Erasure:
    return asyncio.run(erase(HOUSEHOLD, KEY, despite_source=True, elsewhere=elsewhere))


def places_of_the_person(warehouse: TestDatabase) -> set[str]:
    """Tables, the catalogue's statistics too, with a unique value, or with the key as the API nests it."""
    nested = ('"household": {"id": 5}', '"household": {"id": "5"}')
    told = (*UNIQUE, *(text.replace('"', '""') for text in nested))  # as a row is written
    return {place for text in told for place in tables_with(warehouse, text)}


def test_nothing_of_the_person_is_in_any_table_or_statistic(world: TestDatabase) -> None:
    before = places_of_the_person(world)
    assert {
        "raw_shop.households", "raw_marketing.redemptions", "raw_marketing.campaign_targets", "quarantine.rows",
        "quarantine.fixes", "landing.marketing__redemptions__w", "snapshots.households_snapshot", "silver.household",
        "dev_ann__silver.household", "shadow__gold.keyed", "previous__gold.keyed", "gold.dim_household", "ops.alerts",
        "ops.errors", "ops.loads", "pg_statistic",
    } <= before  # fmt: skip

    done = forget()

    # Copies without any key: such rows are deleted where rows wait to be loaded, and reported elsewhere.
    kept = {"shadow__gold.kept", "previous__gold.kept"}
    assert {line.place for line in done.left} - {f"pg_stats of {place}" for place in kept} == kept
    assert not done.proven
    assert places_of_the_person(world) == kept | {"pg_statistic"}
    again = forget()
    assert {line.place for line in again.left} >= kept, (
        "nobody knows the values any more, and nothing is proven by that"
    )
    told = asyncio.run(erase(HOUSEHOLD, KEY, despite_source=True, values=WORDS))
    assert {line.place for line in told.left} >= kept
    for place in kept:
        change(world, f"delete from {place} where email = '{WORDS[1]}'", role="transformer")
    assert asyncio.run(erase(HOUSEHOLD, KEY, despite_source=True, values=WORDS)).proven
    assert places_of_the_person(world) == set()
    assert forget().proven


def test_an_erasure_is_proven_if_every_copy_has_the_key(world: TestDatabase) -> None:
    for schema in ("shadow__gold", "previous__gold"):
        change(world, f"drop table {schema}.kept", role="transformer")
    assert forget().proven
    assert places_of_the_person(world) == set()
    others = rows(world, "select count(*) as n from raw_marketing.redemptions where payload #>> '{household,id}' = '6'")
    assert others == [{"n": 1}]


@pytest.mark.parametrize("forgotten", chosen(PLACES, "raw_marketing.redemptions", "previous__gold.keyed"))
def test_an_erasure_that_forgets_a_place_says_so(
    world: TestDatabase, monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    """The control: both the erasure and the search of these tests see what is left."""

    async def all_but(connection: Any, places: list[Place], *arguments: Any) -> list[Found]:
        return await delete_rows(connection, [place for place in places if place.told != forgotten], *arguments)

    monkeypatch.setattr(erasing, "delete_rows", all_but)
    done = forget()
    assert forgotten in {line.place for line in done.left}
    assert forgotten in places_of_the_person(world)
    assert rows(world, "select event from ops.erasures order by event_id desc limit 1") == [{"event": "incomplete"}]


def send_by_cursor(warehouse: TestDatabase, shop: TestDatabase) -> None:
    change(shop, "update households set updated_at = now() where household_id = 5")
    asyncio.run(load(warehouse, shop, "households"))


def send_by_reload(warehouse: TestDatabase, shop: TestDatabase) -> None:
    for table in ("households", "baskets", "basket_items"):
        change(warehouse, f"alter table raw_shop.{table} rename to old_{table}",
               f"drop table raw_shop.old_{table}", role="loader")  # fmt: skip
        asyncio.run(load(warehouse, shop, table))


def send_lines(warehouse: TestDatabase, shop: TestDatabase) -> None:
    """Only the lines of baskets that are gone here, and do not tell whose they are."""
    change(shop, "update basket_items set updated_at = now() where basket_id in "
                 "(select basket_id from baskets where household_id = 5)")  # fmt: skip
    asyncio.run(load(warehouse, shop, "basket_items"))


def send_as_list(warehouse: TestDatabase, shop: TestDatabase) -> None:
    """As a list, a change or a file: a batch of records, with the key where the API has it."""
    with psycopg.connect(warehouse.url("loader"), autocommit=True) as loader:
        (batch,) = loader.execute(
            "insert into ops.loads (source_system, table_name, strategy, status, rows_read, rows_inserted, "
            "rows_updated, rows_unchanged, rows_deduplicated, rows_quarantined) values ('marketing', 'redemptions', "
            "'list', 'published', 1, 1, 0, 0, 0, 0) returning batch_id"
        ).fetchone() or (0,)
        loader.execute(
            "insert into raw_marketing.redemptions values (77, %s, %s)",
            [json.dumps({"id": 77, "household": {"id": 5}}), batch],
        )


def came_back(warehouse: TestDatabase) -> int:
    basket = "(select min(basket_id) from raw_shop.baskets)"
    return len(rows(warehouse, "select from raw_shop.households where household_id = 5 union all "
                    "select from raw_marketing.redemptions where payload #>> '{household,id}' = '5' union all "
                    "select from raw_shop.basket_items as i where not exists (select from raw_shop.baskets as b "
                    f"where b.basket_id = i.basket_id) and {basket} is not null"))  # fmt: skip


def test_who_is_sent_again_by_any_way_is_erased_again(world: TestDatabase, shop: TestDatabase) -> None:
    forget()
    assert came_back(world) == 0
    for send in (send_by_cursor, send_lines, send_as_list, send_by_reload):
        send(world, shop)
        assert came_back(world) > 0, send.__name__
        assert asyncio.run(erase_returned_since_last_build()) > 0, send.__name__
        assert came_back(world) == 0, send.__name__


def test_who_is_in_a_restored_backup_is_erased_again(
    world: TestDatabase, shop: TestDatabase, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup is as the warehouse was: with the person, and without the log of the erasure."""
    for schema in ("shadow__gold", "previous__gold"):
        change(world, f"drop table {schema}.kept", role="transformer")
    with copy_of(world) as restored:
        assert forget().proven
        for word in (*UNIQUE, "household_id"):
            assert word not in (home / FILE).read_text().replace('"household', "")
        with reached(restored, shop, monkeypatch):
            monkeypatch.setattr(settings(), "home", home)
            (home / FILE).rename(home / "aside")
            assert asyncio.run(erase_again()) == [], "the control: nobody is known to have been erased"
            assert "raw_shop.households" in places_of_the_person(restored)
            (home / "aside").rename(home / FILE)

            (again,) = asyncio.run(erase_again())

            assert again.proven
            assert places_of_the_person(restored) == set()
            assert came_back(restored) == 0
            assert asyncio.run(erase_again()) == []


def test_files_of_the_home_are_searched(held: TestDatabase, home: Path) -> None:
    """Artifacts of dbt, results of runs, which are documents in documents, exports, and logs."""
    told = {
        "dbt/dev_ann/run_results.json": json.dumps({"message": f"Got 1 result: {WORDS[1].upper()}"}),
        "results/abc": json.dumps({"result": json.dumps({"name": WORDS[0], "n": 'a "b"'})}),
        "docs/index.html": "x" * (1 << 20) + WORDS[1],
        "logs/prefect.log": f"GET /people?mail={quote(WORDS[1], safe='')}",
    }
    for name, text in {**told, "dbt/ok.json": "{}", "postgres/data/1": WORDS[1], "backups/1": WORDS[1]}.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)

    done = forget(Elsewhere((home,)))

    assert [line.place for line in done.left] == sorted(f"file {name}" for name in told)
    assert not done.proven


def test_the_database_of_prefect_is_searched(held: TestDatabase, prefect_server: str, cluster: TestCluster) -> None:
    """Parameters of runs, logs and artifacts, as Prefect itself keeps them."""
    from prefect import flow, get_client
    from prefect.artifacts import create_markdown_artifact
    from prefect.client.schemas.actions import LogCreate

    @flow(name="tells", log_prints=False)
    def tells(email: str) -> None:
        create_markdown_artifact(key="tells", markdown=f"of {email}")

    async def log() -> None:
        async with get_client() as client:
            await client.create_logs(
                [LogCreate(name="x", level=20, message=f"{WORDS[0]}!", timestamp=datetime.now(UTC))]
            )

    tells(WORDS[1])
    asyncio.run(log())
    address = prefect_database(cluster, PREFECT_OF_THE_RUN).replace("postgresql+asyncpg:", "postgresql:", 1)

    done = forget(Elsewhere(databases={"Prefect": DatabaseConnection("prefect", address)}))

    found = {(line.place, line.column) for line in done.left}
    assert {("Prefect: public.flow_run", "parameters"), ("Prefect: public.artifact", "data"),
            ("Prefect: public.log", "message")} <= found  # fmt: skip
    assert not done.proven
