"""What is beyond its term goes, in small transactions that are written down; what is not stays."""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from flows.declare.retention import Keep
from flows.purge import Line, purge, purge_expired
from flows.sources.retention import RETENTION
from flows.values.errors import DeclarationError
from flows.values.settings import settings
from tests.conftest import TestDatabase
from tests.flows.prefect_facts import artifacts
from tests.kinds.loading import addresses, load, rows

SNAPSHOT = "snapshots.households_snapshot"
(TRAITS,) = [keep.clears for keep in RETENTION if keep.place == SNAPSHOT]


@pytest.fixture
def aged(warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestDatabase]:
    """With rows on both sides of their terms: in raw, in quarantine, in operations, in snapshots."""
    asyncio.run(load(warehouse, shop, "households"))
    asyncio.run(load(warehouse, shop, "stores"))
    with psycopg.connect(warehouse.url("loader"), autocommit=True) as loader:
        loader.execute(
            "update raw_shop.households set _deleted_at = now() - 190 * household_id * interval '1 day' "
            "where household_id <= 4"
        )
        loader.execute(
            "insert into quarantine.rows (batch_id, source_system, table_name, rule, row_data, row_hash, resolved_at) "
            "select 1, 'shop', 'x', 'r', '{}', n::text, case when n <= 50 then now() - interval '91 days' "
            "when n <= 60 then now() - interval '89 days' end from generate_series(1, 70) as n"
        )
        loader.execute("create table landing.shop__stores as select * from raw_shop.stores")
        loader.execute("create table landing.shop__households as select * from raw_shop.households")
        loader.execute(
            "update ops.loads set started_at = now() - interval '8 days', finished_at = now() - interval '8 days' "
            "where table_name = 'stores'"
        )
    with psycopg.connect(warehouse.url("transformer"), autocommit=True) as transformer:
        traits = ", ".join(f"{name} text default 'known'" for name in TRAITS)
        transformer.execute(f"create table {SNAPSHOT} (household_id int, dbt_valid_to timestamptz, {traits})".encode())
        transformer.execute(f"insert into {SNAPSHOT} values (1, '2001-01-01'), (1, '9999-12-31'), (3, null)".encode())
    for variable, value in addresses(warehouse, shop).items():
        monkeypatch.setenv(variable, value)
    settings.cache_clear()
    yield warehouse
    settings.cache_clear()


def counts(lines: list[Line]) -> dict[str, int]:
    return {line.place: line.count for line in lines}


EXPECTED = {"raw_shop.households", "quarantine.rows", SNAPSHOT, "landing of shop.stores"}


def kept(warehouse: TestDatabase) -> dict[str, int]:
    return {
        table: len(rows(warehouse, f"select from {table}"))
        for table in ("raw_shop.households", "quarantine.rows", SNAPSHOT, "landing.shop__households")
    }


def test_a_plan_counts_and_touches_nothing(aged: TestDatabase, tmp_path: Path) -> None:
    before = kept(aged)
    planned = counts(asyncio.run(purge_expired(delete=False, results=tmp_path)))
    assert planned.keys() == EXPECTED
    assert planned["quarantine.rows"] == 50
    assert kept(aged) == before


def test_only_what_is_beyond_its_term_goes_in_batches_that_are_written_down(aged: TestDatabase, tmp_path: Path) -> None:
    before = kept(aged)
    done = counts(asyncio.run(purge_expired(delete=True, results=tmp_path, batch_rows=20)))
    after = kept(aged)
    assert done.keys() == EXPECTED
    assert before["quarantine.rows"] - after["quarantine.rows"] == 50
    assert before["raw_shop.households"] - after["raw_shop.households"] == 2
    # Rows of a snapshot number its versions: they stay, without what they say of a person.
    left = rows(aged, f"select household_id, {', '.join(TRAITS)} from {SNAPSHOT} order by household_id, dbt_valid_to")
    assert [list(row.values()) for row in left] == [
        [1, *[None] * len(TRAITS)],
        [1, *["known"] * len(TRAITS)],
        [3, *["known"] * len(TRAITS)],
    ]
    assert rows(aged, "select from raw_shop.households where _deleted_at < now() - interval '400 days'") == []
    written = rows(aged, "select rows from ops.retentions where place = 'quarantine.rows' order by retention_id")
    assert [line["rows"] for line in written] == [20, 20, 10]
    assert asyncio.run(purge_expired(delete=True, results=tmp_path)) == []


def test_a_landing_table_goes_only_when_its_last_load_ended_long_ago(aged: TestDatabase, tmp_path: Path) -> None:
    """That of households is young, and may be gone on with."""
    asyncio.run(purge_expired(delete=True, results=tmp_path))
    left = rows(aged, "select relname from pg_class where relnamespace = 'landing'::regnamespace and relkind = 'r'")
    assert left == [{"relname": "shop__households"}]


def test_what_a_killed_replay_left_goes_although_the_table_is_loaded_daily(aged: TestDatabase, tmp_path: Path) -> None:
    with psycopg.connect(aged.url("loader"), autocommit=True) as loader:
        for name in ("shop__stores__k", "shop__households__r", "shop__households__j", "shop__households__p"):
            loader.execute(f"create table landing.{name} as select 1 as n".encode())
        loader.execute(
            "insert into ops.loads (source_system, table_name, status, strategy, started_at, finished_at) "
            "select 'shop', 'households', 'failed', 'replay', t, t from (select now() - interval '9 days' as t) as o"
        )
    asyncio.run(purge_expired(delete=True, results=tmp_path))
    left = rows(aged, "select relname from pg_class where relnamespace = 'landing'::regnamespace order by 1")
    # The control: what a load of these days may resume with.
    assert [row["relname"] for row in left] == ["shop__households", "shop__households__p"]


def test_results_of_old_runs_go_from_the_disk(aged: TestDatabase, tmp_path: Path) -> None:
    old, young = tmp_path / "old", tmp_path / "young"
    old.touch()
    young.touch()
    os.utime(old, (time.time() - 31 * 86_400,) * 2)
    asyncio.run(purge_expired(delete=True, results=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["young"]


def test_results_go_only_from_within_this_home(
    aged: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect keeps results of all projects of an account in one folder, unless it is told where."""
    home, others = tmp_path / "home", tmp_path / "home-of-another"
    monkeypatch.setenv("MEDALLION_HOME", str(home))
    settings.cache_clear()
    (others / "storage").mkdir(parents=True)
    home.mkdir()
    (home / "link").symlink_to(others / "storage")
    for storage, goes in ((others / "storage", False), (home / "link", False), (home / "storage", True)):
        storage.mkdir(exist_ok=True)
        (storage / "old").touch()
        os.utime(storage / "old", (time.time() - 31 * 86_400,) * 2)
        for delete in (False, True):
            with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: storage}):
                lines = counts(asyncio.run(purge_expired(delete=delete)))
            assert lines.get("results of runs", 0) == goes, storage
        assert (storage / "old").exists() != goes, storage


def test_loads_that_changed_nothing_go_once_a_later_one_was_published_and_runs_go_with_the_last_of_their_rows(
    aged: TestDatabase, tmp_path: Path
) -> None:
    """A hundred tables an hour would be 1.7 GB a year for ever; the load that a row of raw names has to stay."""
    with psycopg.connect(aged.url("loader"), autocommit=True) as loader:
        loader.execute("delete from ops.loads; delete from ops.runs")
        for number, facts in enumerate(
            ("0, 'published'", "3, 'published'", "0, 'failed'", "0, 'running'", "0, 'published'"), start=1
        ):
            loader.execute(
                "insert into ops.runs (run_id, pipeline, status, finished_at) overriding system value "
                f"values ({number}, 'ingest', 'done', now() - interval '401 days')"
            )
            loader.execute(
                "insert into ops.loads (batch_id, run_id, source_system, table_name, strategy, finished_at, "
                "rows_read, rows_updated, rows_unchanged, rows_deduplicated, rows_quarantined, rows_inserted, status) "
                f"overriding system value values ({number}, {number}, 'shop', 'stores', 'merge', "
                f"now() - interval '401 days', 3, 0, 3 - {facts.partition(',')[0]}, 0, 0, {facts})"
            )
        loader.execute(
            "insert into ops.runs (run_id, pipeline, status, finished_at) overriding system value "
            "values (6, 'ingest', 'done', now())"
        )
    asyncio.run(purge_expired(delete=True, results=tmp_path))

    # 1 and 3 changed nothing. 2 wrote rows, 4 may still be under way, 5 says how fresh the table is.
    assert [row["batch_id"] for row in rows(aged, "select batch_id from ops.loads order by 1")] == [2, 4, 5]
    old = rows(aged, "select run_id from ops.runs where finished_at < now() - interval '400 days' order by 1")
    assert [row["run_id"] for row in old] == [2, 4, 5]
    assert len(rows(aged, "select from ops.runs")) == 4


def test_dbts_folders_of_builds_that_nobody_made_for_a_month_go(
    aged: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_HOME", str(tmp_path))
    settings.cache_clear()
    for name, days in (("ada", 31), ("bob", 1), ("state/7", 31), (".", 31)):
        manifest = tmp_path / "dbt" / name / "manifest.json"
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.touch()
        os.utime(manifest, (time.time() - days * 86_400,) * 2)
    asyncio.run(purge_expired(delete=True, results=tmp_path / "none"))
    left = sorted(str(path.parent.relative_to(tmp_path / "dbt")) for path in tmp_path.rglob("manifest.json"))
    assert left == [".", "bob"]


def test_the_nightly_flow_deletes_and_reports_or_only_counts(aged: TestDatabase, prefect_server: str) -> None:
    before = kept(aged)
    counted = nightly_purge(delete=False)
    assert kept(aged) == before
    deleted = nightly_purge()
    assert asyncio.run(deleted.aresult()) == asyncio.run(counted.aresult())
    assert kept(aged)["quarantine.rows"] == before["quarantine.rows"] - 50
    assert "quarantine.rows | 90 days | 50 rows" in artifacts(deleted)["purge"]


def nightly_purge(**parameters: bool) -> State[dict[str, int]]:
    """As the deployment runs it."""

    async def run() -> State[dict[str, int]]:
        state: State[dict[str, int]] = await purge(**parameters, return_state=True)
        return state

    return asyncio.run(run())


def test_a_term_is_a_day_or_more_of_one_place() -> None:
    with pytest.raises(DeclarationError):
        Keep("quarantine.rows", days=0, by="resolved_at")
    with pytest.raises(DeclarationError):
        Keep("quarantine", days=1, by="resolved_at")
    with pytest.raises(DeclarationError, match="renumbered"):
        Keep("snapshots.*", days=1, by="dbt_valid_to")


def test_a_row_of_another_partition_that_lies_at_the_same_place_stays(aged: TestDatabase, tmp_path: Path) -> None:
    """Two partitions have rows of the same ctid; to delete by ctid alone took those that were not due."""
    with psycopg.connect(aged.url("loader"), autocommit=True) as loader:
        loader.execute("create table raw_shop.parted (n int, _deleted_at timestamptz) partition by list (n)")
        for n in (1, 2):
            loader.execute(
                f"create table raw_shop.parted_{n} partition of raw_shop.parted for values in ({n})".encode()
            )
        loader.execute("insert into raw_shop.parted values (1, '2001-01-01'), (2, now())")
    asyncio.run(purge_expired(delete=True, results=tmp_path))
    assert rows(aged, "select n from raw_shop.parted") == [{"n": 2}]
