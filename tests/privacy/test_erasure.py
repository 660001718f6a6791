"""A person's right to be forgotten: every row goes, nothing is left anywhere, and nobody comes back in silence."""

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from flows.access.erasure_key import erasure_key
from flows.declare import Hashed, Replace
from flows.declare.subject import Subject
from flows.failures.failpoints import ERASURE_FAILPOINTS
from flows.kinds.postgres import Database, Table
from flows.privacy.erase import Erasure, erase, find_subject, plan_erasure
from flows.privacy.record import hash_key
from flows.privacy.returned import erase_returned
from flows.sources.subjects import SUBJECTS
from flows.values.errors import ConfigurationError, DataRefused, DeclarationError
from flows.values.settings import settings
from flows.verbs.find import find_table
from tests.conftest import TestDatabase
from tests.kinds.conformance import forking
from tests.kinds.loading import change, load, rows
from tests.privacy.one_household import HOUSEHOLD, KEY, WORDS


def forget(key: str = KEY) -> Erasure:
    return asyncio.run(erase(HOUSEHOLD, key, despite_source=True))


def whole_warehouse(warehouse: TestDatabase) -> dict[str, str]:
    """Every row of every table as text, by its table; found without any of the code under test."""
    found = {}
    tables = rows(warehouse, "select n.nspname || '.' || c.relname as name from pg_class as c "
                  "join pg_namespace as n on n.oid = relnamespace where relkind in ('r', 'p') "
                  "and n.nspname not in ('pg_catalog', 'information_schema') order by 1")  # fmt: skip
    for table in tables:
        lines = rows(warehouse, f"select t::text as row from {table['name']} as t")
        found[table["name"]] = "\n".join(line["row"] for line in lines)
    return found


def counted(warehouse: TestDatabase) -> dict[str, int]:
    return {name: len(text.splitlines()) for name, text in whole_warehouse(warehouse).items()}


def test_the_person_stands_where_the_plan_says_and_the_plan_touches_nothing(held: TestDatabase) -> None:
    before = whole_warehouse(held)
    plan = asyncio.run(plan_erasure(HOUSEHOLD, KEY))
    found = {line.place.told: line.rows for line in plan.found}
    assert {
        "raw_shop.households", "raw_shop.baskets", "raw_shop.basket_items", "raw_marketing.targets",
        "landing.marketing__targets", "quarantine.rows", "silver.household", "silver.basket_line",
        "dev_ann__silver.household", "snapshots.households_snapshot", "gold.dim_household", "gold.fct_baskets",
    } <= set(found)  # fmt: skip
    assert found["raw_shop.households"] == 1
    assert found["raw_marketing.targets"] == 1, "household 55 is somebody else"
    assert "gold.agg_daily_sales" not in found
    assert whole_warehouse(held) == before


def test_nothing_of_the_person_is_left_in_any_column_of_any_table(held: TestDatabase) -> None:
    before = counted(held)
    assert any(word in text for word in WORDS for text in whole_warehouse(held).values())

    done = forget()

    assert done.left == []
    assert done.closed == []
    for table, text in whole_warehouse(held).items():
        for word in WORDS[:2]:
            assert word.replace("'", "''") not in text, table
            assert word not in text, table
    after = counted(held)
    assert after["raw_shop.households"] == before["raw_shop.households"] - 1
    assert after["gold.agg_daily_sales"] == before["gold.agg_daily_sales"]
    assert rows(held, "select what from ops.errors") == [{"what": "the row of [erased] is bad"}]
    assert rows(held, "select keys from ops.reconciliations") == [{"keys": {}}]


def test_others_keep_their_rows_even_where_they_share_a_telephone(held: TestDatabase) -> None:
    forget()
    kept = rows(held, "select row_data ->> 'household_id' as household_id from quarantine.rows")
    assert kept == [{"household_id": "6"}]
    assert rows(held, "select target_id from raw_marketing.targets") == [{"target_id": "b"}]


def test_the_log_tells_what_went_and_not_whose_it_was(held: TestDatabase) -> None:
    forget()
    log = rows(held, "select * from ops.erasures where subject = 'household' order by event_id")
    assert [line["event"] for line in log] == ["began", "deleted", "finished"]
    assert {line["key_hash"] for line in log} == {hash_key(b"a-secret-of-the-tests", HOUSEHOLD, KEY)}
    assert log[1]["rows"]["raw_shop.households"] == 1
    assert not any(word in str(log) for word in WORDS)


def test_rows_of_the_log_are_only_added(held: TestDatabase) -> None:
    forget()
    for role in ("loader", "transformer"):
        with psycopg.connect(held.url(role), autocommit=True) as connection:
            for statement in ("delete from {}", "update {} set subject = 'nobody'", "truncate {}"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement.format("ops.erasures").encode())
    assert len(rows(held, "select from ops.erasures where subject = 'household'")) == 3


def test_what_lies_too_deep_to_be_deleted_by_itself_is_reported(held: TestDatabase) -> None:
    """A list with other people in it is not deleted whole; that the person is in it must not go unsaid."""
    with psycopg.connect(held.url("loader"), autocommit=True) as loader:
        loader.execute(
            "insert into raw_marketing.targets values ('c', %s)",
            ['{"members": [{"household_id": 5}, {"household_id": 7}]}'],
        )
    done = forget()
    assert [(left.place, left.column, left.rows) for left in done.left] == [("raw_marketing.targets", "payload", 1)]
    assert rows(held, "select event from ops.erasures order by event_id desc limit 1") == [{"event": "incomplete"}]


def test_a_table_that_none_of_our_roles_may_read_is_named(held: TestDatabase) -> None:
    with psycopg.connect(held.url("admin"), autocommit=True) as admin:
        admin.execute("create schema private; create table private.notes (words text)")
    assert forget().closed == ["private.notes"]


def test_a_table_that_somebody_else_owns_is_searched_and_reported(held: TestDatabase) -> None:
    with psycopg.connect(held.url("admin"), autocommit=True) as admin:
        admin.execute("create table gold.copied (words text[]); grant select on gold.copied to medallion_transformer")
        admin.execute("insert into gold.copied values (array['to ZQQUARK.zero@example.com'])")
    assert [(left.place, left.column) for left in forget().left] == [("gold.copied", "words")]


@pytest.mark.parametrize("failpoint", ERASURE_FAILPOINTS)
def test_an_erasure_that_was_killed_goes_on(held: TestDatabase, failpoint: str) -> None:
    died = forking.run("tests.privacy.one_erasure", [KEY], {"MEDALLION_FAILPOINT": failpoint})
    assert died.returncode == -signal.SIGKILL, died.stderr

    done = forget()

    assert done.left == []
    assert not any(WORDS[1] in text for text in whole_warehouse(held).values())
    assert rows(held, "select event from ops.erasures order by event_id desc limit 1") == [{"event": "finished"}]


def test_while_the_source_holds_the_person_nothing_is_erased(held: TestDatabase, shop: TestDatabase) -> None:
    before = whole_warehouse(held)
    with pytest.raises(DataRefused, match="still has this household") as refused:
        asyncio.run(erase(HOUSEHOLD, KEY))
    assert "5" not in refused.value.where + refused.value.what
    assert whole_warehouse(held) == before
    change(shop, "delete from basket_items where basket_id in (select basket_id from baskets where household_id = 5)",
           "delete from baskets where household_id = 5",
           "delete from household_events where household_id = 5",
           "delete from households where household_id = 5")  # fmt: skip
    assert asyncio.run(erase(HOUSEHOLD, KEY)).left == []


def test_a_person_whom_a_load_brings_back_is_deleted_again_and_that_is_written_down(
    held: TestDatabase, shop: TestDatabase
) -> None:
    forget()
    change(shop, "update households set updated_at = now() where household_id in (5, 6)")
    result = asyncio.run(load(held, shop, "households"))
    assert len(rows(held, "select from raw_shop.households where household_id = 5")) == 1

    assert asyncio.run(erase_returned("shop", [result.batch_id])) == 1

    assert rows(held, "select from raw_shop.households where household_id = 5") == []
    assert len(rows(held, "select from raw_shop.households where household_id = 6")) == 1
    assert rows(held, "select event from ops.erasures order by event_id desc limit 1") == [{"event": "returned"}]
    assert asyncio.run(erase_returned("shop", [result.batch_id])) == 0


def test_the_hash_of_the_warehouse_is_the_hash_of_the_log(held: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key longer than a block is hashed first, by the standard; else people would not be recognised."""
    monkeypatch.setenv("MEDALLION_ERASURE_KEY", "k" * 100)
    settings.cache_clear()
    forget()
    batch = rows(held, "select max(_batch_id) as n from raw_shop.households")[0]["n"]
    with psycopg.connect(held.url("loader"), autocommit=True) as loader:
        loader.execute(
            "insert into raw_shop.households (household_id, full_name, preferences, updated_at, _extracted_at, "
            "_source_system, _batch_id) values (5, 'back', '{}', now(), now(), 'shop', %s)",
            [batch],
        )
    assert asyncio.run(erase_returned("shop", [batch])) == 1


def test_without_a_key_that_lasts_nobody_is_erased(held: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEDALLION_ERASURE_KEY")
    settings.cache_clear()
    with pytest.raises(ConfigurationError, match="the key for hashing erased subjects is not configured"):
        erasure_key()


@pytest.mark.parametrize("key", ["", " " * 40, "household"])
def test_a_key_that_hides_nobody_is_refused(held: TestDatabase, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """A secret that was mounted empty would write everybody down under a hash that anyone can compute."""
    monkeypatch.setenv("MEDALLION_ERASURE_KEY", key)
    settings.cache_clear()
    with pytest.raises(ConfigurationError, match="empty or short"):
        forget()
    assert rows(held, "select from ops.erasures") == []


def test_beside_the_embedded_stack_a_key_is_made_once_and_appears_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEDALLION_ERASURE_KEY", raising=False)
    monkeypatch.setenv("MEDALLION_HOME", str(tmp_path))
    settings.cache_clear()
    (tmp_path / "stack.json").write_text("{}")
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: erasure_key(), range(32)))
    assert len(made) == 1
    assert [path.name for path in tmp_path.iterdir() if path.name != "stack.json"] == ["erasure.key"]
    assert (tmp_path / "erasure.key").stat().st_mode & 0o077 == 0
    # What a kill could leave behind, when the key was written in place.
    (tmp_path / "erasure.key").write_text("")
    with pytest.raises(ConfigurationError, match="empty or short"):
        erasure_key()
    settings.cache_clear()


def test_every_declared_kind_of_person_lives_in_a_table_that_is_read() -> None:
    for subject in SUBJECTS:
        assert find_table(subject.home)[1].keys == (subject.key,)


def test_an_unknown_kind_of_person_is_refused() -> None:
    with pytest.raises(DeclarationError, match="household"):
        find_subject("dragon")
    with pytest.raises(DeclarationError, match="does not name a table of a source"):
        Subject("x", key="x_id", home="nowhere")


def test_a_subject_whose_key_is_hashed_in_raw_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing would be found by the value that the person names, and nothing left would be proven."""
    hashed = Table("households", key="household_id", load=Replace(), masked={"household_id": Hashed()})
    monkeypatch.setattr("flows.privacy.erase.SOURCES", (Database("shop", connection="shop", tables=[hashed]),))
    with pytest.raises(DeclarationError, match=r"is masked in shop\.households"):
        find_subject("household")
