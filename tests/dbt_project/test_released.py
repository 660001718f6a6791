"""The whole project released beside readers, gone on with, taken back: every table ends as a full build makes it."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from prefect.context import refresh_global_settings_context

from flows.models.rollback import roll_back_models
from flows.release import release
from flows.tasks import gates
from flows.values.settings import settings
from tests.conftest import TestDatabase
from tests.dbt_project.built_warehouse import PROJECT, RULE_IDS, SHARE_ALLOWED, Warehouse, without
from tests.dbt_project.test_gates import CONTRACTS
from tests.dbt_project.test_shadow_build import keep
from tests.flows.small_project import CONTRACTS as SMALL_CONTRACTS

pytestmark = [pytest.mark.xdist_group("released"), pytest.mark.long]

LINE = "silver.basket_line"
NOT_TESTS = ("--exclude-resource-type", "test")
# Both are made of the lines, by two models.
TOTALS = """
select (select sum(sales_value) from gold.fct_basket_lines), (select sum(sales_value) from gold.agg_daily_sales)
"""


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """The project with one more column in an incremental model, which no ordinary run would take in."""
    project = tmp_path / "changed"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    line = project / "models/silver/basket_line.sql"
    last = "now() as _transformed_at"
    line.write_text(line.read_text().replace(last, f"{last},\n        quantity > 1 as is_several"))
    settings_file = project / "dbt_project.yml"
    declared = yaml.safe_load(settings_file.read_text())
    declared["vars"]["rule_limits"] = dict.fromkeys(RULE_IDS, SHARE_ALLOWED)
    settings_file.write_text(yaml.safe_dump(declared))
    return project


@pytest.fixture
def pointed(
    warehouse: TestDatabase, prefect_server: str, changed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    refresh_global_settings_context()  # else dbt's threads know no server
    raw = tmp_path / "raw.yml"
    raw.write_text(SMALL_CONTRACTS["raw"])  # raw was filled by SQL, not by loads
    # Two products in one basket often enough are not found in a few rows.
    gold = [contract for contract in CONTRACTS if contract.stem != "agg_product_affinity"]
    monkeypatch.setattr(gates, "contracts_of", lambda gate: gold if gate == "gold" else [raw])
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", warehouse.url("loader"))
    monkeypatch.setenv("MEDALLION_WAREHOUSE_TRANSFORMER_URL", warehouse.url("transformer"))
    monkeypatch.setenv("MEDALLION_HOME", str(tmp_path / "home"))
    for module in ("flows.transform", "flows.tasks.builds", "flows.release"):
        monkeypatch.setattr(f"{module}.DBT_PROJECT", changed)
    settings.cache_clear()
    yield
    settings.cache_clear()


def remembered(warehouse: Warehouse) -> list[int]:
    """Rows of what raw does not tell any more."""
    tables = ("snapshots.households_snapshot", "snapshots.products_snapshot", "silver_quarantine.quality_scores_shop")
    return [warehouse.value(f"select count(*) from {table}") for table in tables]


def test_after_a_release_and_after_a_rollback_runs_go_on_to_what_a_full_build_gives(
    empty: Warehouse, pointed: None, changed: Path, tmp_path: Path
) -> None:
    released = Warehouse(empty.database, tmp_path / "released", changed)
    empty.load_day_one()
    assert empty.build(*NOT_TESTS).exit_code == 0
    keep(empty)
    readers = empty.value("select array_agg(distinct nspacl::text) from pg_namespace where nspname = 'gold'")

    over, looks = threading.Event(), []

    def read() -> None:
        with psycopg.connect(empty.database.url("reader"), autocommit=True) as connection:
            while not over.wait(0.05):
                looks.append(connection.execute(TOTALS).fetchone())

    reader = threading.Thread(target=read)
    reader.start()
    facts = release()
    over.set()
    reader.join()

    assert {name for name, change in facts["changes"].items() if not change["same"]} == set()
    assert len(looks) > 5
    assert len(set(looks)) == 1
    assert empty.value(f"select count(is_several) = count(*) from {LINE}")
    assert empty.value("select array_agg(distinct nspacl::text) from pg_namespace where nspname = 'gold'") == readers
    with psycopg.connect(empty.database.url("reader")) as connection:
        for contract in CONTRACTS:
            connection.execute(f"select 1 from gold.{contract.stem} limit 1".encode())

    empty.load("dbt_project/raw_day_two.sql")
    assert released.build(*NOT_TESTS).exit_code == 0
    gone_on = without("_transformed_at", released.facts())
    gone_on[LINE] = without("is_several", {LINE: gone_on[LINE]})[LINE]
    counts = remembered(empty)

    done = roll_back_models("Ada")

    assert (done.withdrawn, done.restored) == (facts["release"], None)
    assert empty.value("select count(*) from information_schema.columns where column_name = 'is_several' "
                       "and table_schema = 'silver'") == 0  # fmt: skip
    assert remembered(empty) == counts
    assert empty.build(*NOT_TESTS).exit_code == 0
    taken_back = without("_transformed_at", empty.facts())
    assert empty.build("--full-refresh", *NOT_TESTS).exit_code == 0
    full = without("_transformed_at", empty.facts())
    assert taken_back == full
    assert gone_on == full
