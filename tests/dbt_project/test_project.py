"""The house rules of the dbt project, which dbt itself does not hold."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.dbt_project.built_warehouse import PROJECT, Story

DBT = Path(sys.executable).with_name("dbt")

MODELS = sorted((ROOT / "dbt_project/models").rglob("*.sql"))
FROM_NO_SOURCE = {"dim_date", "calendar_day", "quality_rules", "customer_score"}
AUDIT = {"_extracted_at", "_batch_id", "_loaded_batch_id"}


def described(sql: Path) -> dict[str, Any]:
    """The model's entry; of a version, with its own columns: `dim_store_v2.sql` is described in `dim_store.yml`."""
    twin = sql.with_suffix(".yml")
    if not twin.exists():
        twin = sql.with_name(re.sub(r"_v\d+$", "", sql.stem) + ".yml")
    (model,) = yaml.safe_load(twin.read_text())["models"]
    assert isinstance(model, dict)
    for version in model.get("versions", []):
        if sql.stem == f"{model['name']}_v{version['v']}":
            selection, *own = version.get("columns", [{"exclude": []}])
            kept = [column for column in model["columns"] if column["name"] not in selection["exclude"]]
            table = version.get("config", {}).get("alias", sql.stem)
            return {**model, "name": sql.stem, "table": table, "columns": [*kept, *own]}
    return {**model, "table": model["name"]}


@pytest.mark.parametrize("sql", MODELS, ids=lambda path: path.stem)
def test_a_model_has_a_twin_that_begins_with_its_grain(sql: Path) -> None:
    model = described(sql)
    assert model["name"] == sql.stem
    assert model["description"].startswith("One row per ")


@pytest.mark.parametrize("sql", MODELS, ids=lambda path: path.stem)
def test_a_model_carries_the_load_that_brought_its_rows(sql: Path) -> None:
    if sql.stem in FROM_NO_SOURCE:
        pytest.skip("its rows come from no source")
    columns = {column["name"] for column in described(sql)["columns"]}
    assert len(columns & AUDIT) >= 2


@pytest.mark.xdist_group("dbt")
def test_every_column_is_described_and_every_description_has_a_column(transformed: Story) -> None:
    built: dict[str, set[str]] = {}
    for row in transformed.warehouse.rows("""
        select table_name, column_name from information_schema.columns
        where table_schema in ('staging', 'silver', 'silver_quarantine', 'gold')
    """):
        built.setdefault(row["table_name"], set()).add(row["column_name"])
    for sql in MODELS:
        columns = described(sql)["columns"]
        assert all(column["description"].strip() for column in columns), sql.stem
        assert {column["name"] for column in columns} == built[described(sql)["table"]], sql.stem


def test_staging_only_renames_and_casts() -> None:
    """Whoever joins or counts in staging hides a rule where nobody looks for one."""
    for sql in (ROOT / "dbt_project/models/staging").rglob("*.sql"):
        text = re.sub(r"--.*", "", sql.read_text())
        assert not re.search(r"\b(join|group by|over|distinct|union)\b", text), sql.stem


def test_no_secret_of_the_connection_has_a_default() -> None:
    profile = (ROOT / "dbt_project/profiles.yml").read_text()
    for variable in ("HOST", "USER", "DATABASE"):
        assert f"env_var('MEDALLION_DBT_{variable}')" in profile
    # Empty, so that libpq looks into its password file.
    assert "env_var('DBT_ENV_SECRET_MEDALLION_PASSWORD', '')" in profile


SCHEMAS = {"staging", "silver", "silver_quarantine", "gold", "snapshots"}


def schemas(target: Path) -> set[str]:
    nodes = json.loads((target / "manifest.json").read_text())["nodes"].values()
    return {node["schema"] for node in nodes if node["resource_type"] in {"model", "seed", "snapshot"}}


@pytest.mark.xdist_group("dbt")
def test_schemas_carry_exactly_the_names_written(transformed: Story) -> None:
    """dbt alone would put the target's schema before each: `staging_gold`."""
    assert schemas(transformed.warehouse.target) == SCHEMAS


@pytest.mark.long
def test_a_prefix_puts_a_whole_build_beside_the_others(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "MEDALLION_DBT_SCHEMA_PREFIX": "pr_42_",
        "MEDALLION_DBT_HOST": "127.0.0.1",
        "MEDALLION_DBT_USER": "nobody",
        "DBT_ENV_SECRET_MEDALLION_PASSWORD": "unused: parsing opens no connection",
        "MEDALLION_DBT_DATABASE": "warehouse",
    }
    subprocess.run(
        [DBT, "parse", "--project-dir", PROJECT, "--profiles-dir", PROJECT,
         "--target-path", tmp_path, "--log-path", tmp_path],
        env=environment, check=True, capture_output=True, timeout=180,
    )  # fmt: skip
    assert schemas(tmp_path) == {f"pr_42_{schema}" for schema in SCHEMAS}
