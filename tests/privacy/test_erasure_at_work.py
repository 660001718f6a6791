"""A person is erased while the platform is at work, and comes back by every way there is."""

import asyncio
import json

import psycopg
import pytest

from flows.access import addresses
from flows.privacy.erase import Erasure, erase
from flows.privacy.returned import erase_returned, erase_returned_since_last_build
from flows.state.transform_lock import transform_lock
from flows.values.errors import LoadLocked
from flows.values.settings import settings
from tests.conftest import TestDatabase
from tests.kinds.loading import change, load, rows
from tests.privacy.one_household import HOUSEHOLD, KEY


def forget() -> None:
    asyncio.run(erase(HOUSEHOLD, KEY, despite_source=True))


def came_back(warehouse: TestDatabase) -> int:
    return len(rows(warehouse, "select from raw_shop.households where household_id = 5"))


def test_nobody_is_erased_while_models_are_built(held: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that has read the person writes it into a snapshot when we have proven that nothing is left."""
    monkeypatch.setattr(settings(), "lock_wait_seconds", 0.2)
    with (
        transform_lock(addresses.warehouse(), wait_seconds=0),
        pytest.raises(LoadLocked, match="another transform"),
    ):
        forget()
    assert rows(held, "select from ops.erasures") == []
    forget()


def test_models_are_not_built_while_somebody_is_erased(held: TestDatabase) -> None:
    with psycopg.connect(held.url("transformer"), autocommit=True) as reader:
        # The deletion waits for this one, in the middle of the erasure.
        reader.execute("begin; lock table silver.household in share mode")

        async def both() -> None:
            erasing = asyncio.create_task(erase(HOUSEHOLD, KEY, despite_source=True))
            while not rows(held, "select from ops.erasures"):  # noqa: ASYNC110 - the warehouse has no event for it
                await asyncio.sleep(0.05)
            with (
                pytest.raises(LoadLocked),
                transform_lock(addresses.warehouse(), wait_seconds=0),
            ):
                pass
            reader.execute("commit")
            await erasing

        asyncio.run(both())
    with transform_lock(addresses.warehouse(), wait_seconds=0):
        pass


def test_who_was_brought_back_by_a_load_that_died_goes_before_models_are_built(
    held: TestDatabase, shop: TestDatabase
) -> None:
    """Backfills, repairs and restores do not look at whom they bring; neither does a load that is killed."""
    forget()
    change(shop, "update households set updated_at = now() where household_id in (5, 6)")
    asyncio.run(load(held, shop, "households"))
    assert came_back(held) == 1

    assert asyncio.run(erase_returned_since_last_build()) == 1

    assert came_back(held) == 0
    assert asyncio.run(erase_returned_since_last_build()) == 0


def test_what_was_there_before_the_last_build_is_not_looked_at_again(held: TestDatabase, shop: TestDatabase) -> None:
    forget()
    change(shop, "update households set updated_at = now() where household_id = 5")
    asyncio.run(load(held, shop, "households"))
    with psycopg.connect(held.url("loader"), autocommit=True) as loader:
        loader.execute(
            "insert into ops.runs (pipeline, status, details) values ('transform', 'done', '{\"full_build\": true}')"
        )
    assert asyncio.run(erase_returned_since_last_build()) == 0


def test_who_comes_back_into_quarantine_is_recognised_there(held: TestDatabase) -> None:
    """A row that breaks a rule never reaches raw, and would wait at the door for ever."""
    forget()
    with psycopg.connect(held.url("loader"), autocommit=True) as loader:
        for household in (5, 6):
            record = json.dumps({"household_id": household, "email": "back"})
            loader.execute(
                "insert into quarantine.rows (batch_id, source_system, table_name, row_key, rule, row_data, row_hash) "
                "values (77, 'shop', 'households', null, 'r', %s, %s)",
                [record, record],
            )
    assert asyncio.run(erase_returned("shop", [77])) == 1
    left = rows(held, "select row_data ->> 'household_id' as household_id from quarantine.rows where batch_id = 77")
    assert left == [{"household_id": "6"}]


def test_a_materialized_view_is_made_again_without_the_person(held: TestDatabase) -> None:
    """Nothing can be deleted in it; to try broke the whole erasure off."""
    with psycopg.connect(held.url("transformer"), autocommit=True) as transformer:
        transformer.execute(
            "create materialized view gold.everybody as select household_id, email from silver.household"
        )
    done = asyncio.run(erase(HOUSEHOLD, KEY, despite_source=True))
    assert done.left == []
    assert rows(held, "select from gold.everybody where household_id = 5") == []
    assert len(rows(held, "select from gold.everybody")) > 10


def test_a_materialized_view_of_raw_is_reported_and_clean_the_second_time(held: TestDatabase) -> None:
    with psycopg.connect(held.url("transformer"), autocommit=True) as transformer:
        transformer.execute("create materialized view gold.everybody as select household_id from raw_shop.households")
    assert {left.place for left in asyncio.run(erase(HOUSEHOLD, KEY, despite_source=True)).left} == {"gold.everybody"}
    assert asyncio.run(erase(HOUSEHOLD, KEY, despite_source=True)).left == []


def test_what_a_running_build_writes_later_is_deleted_too(held: TestDatabase) -> None:
    """A build into private schemas takes no lock: it has read the person, and commits when nothing seems to be left."""
    with psycopg.connect(held.url("transformer")) as builder:
        builder.execute("create schema dev_bob__silver")
        builder.execute(
            "create table dev_bob__silver.people as select full_name, email, household_id from silver.household"
        )

        async def both() -> Erasure:
            erasing = asyncio.create_task(erase(HOUSEHOLD, KEY, despite_source=True))
            while not rows(held, "select from ops.erasures where event = 'deleted'"):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
            builder.commit()
            return await erasing

        done = asyncio.run(both())
    assert done.proven
    assert "dev_bob__silver.people" in {line.place.told for line in done.deleted}
    assert rows(held, "select from dev_bob__silver.people where household_id = 5") == []
    assert len(rows(held, "select from dev_bob__silver.people")) > 10


def test_a_transaction_that_does_not_end_is_told_and_nothing_is_proven(
    held: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "lock_wait_seconds", 0.2)
    with psycopg.connect(held.url("reader")) as reader:
        reader.execute("select 1")
        done = asyncio.run(erase(HOUSEHOLD, KEY, despite_source=True))
    assert (done.busy, done.proven, done.left) == (1, False, [])
    assert asyncio.run(erase(HOUSEHOLD, KEY, despite_source=True)).proven
    log = rows(held, "select event from ops.erasures where subject = 'household' order by event_id")
    assert [line["event"] for line in log if line["event"] in ("finished", "incomplete")] == ["incomplete", "finished"]
