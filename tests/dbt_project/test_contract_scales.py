"""A contract says how exact a number is; a model that selects a more exact one must say that it rounds."""

from pathlib import Path

import pytest
import yaml

from tests.conftest import TestDatabase
from tests.dbt_project.built_warehouse import PROJECT, Warehouse

pytestmark = pytest.mark.xdist_group("dbt")

MODEL = """
models:
  - name: shares
    config: {contract: {enforced: true}}
    columns: [{name: share, data_type: "numeric(9, 0)"}]
"""


def project(database: TestDatabase, folder: Path, sql: str, *, checked: bool = True) -> Warehouse:
    settings = yaml.safe_load((PROJECT / "dbt_project.yml").read_text())
    kept = {name: settings[name] for name in ("name", "version", "profile") if name in settings}
    (folder / "dbt_project.yml").write_text(yaml.safe_dump(kept | {"macro-paths": ["macros"] if checked else ["none"]}))
    (folder / "macros").symlink_to(PROJECT / "macros")
    (folder / "profiles.yml").write_text((PROJECT / "profiles.yml").read_text())
    (folder / "models").mkdir()
    (folder / "models" / "shares.sql").write_text("{{ config(materialized='table', schema='gold') }}\n" + sql)
    (folder / "models" / "shares.yml").write_text(MODEL)
    return Warehouse(database, folder / "target", folder)


@pytest.mark.parametrize("selected", ["numeric(12, 4)", "numeric"])
def test_what_would_be_rounded_is_refused(warehouse: TestDatabase, tmp_path: Path, selected: str) -> None:
    built = project(warehouse, tmp_path, f"select 1.6::{selected} as share").dbt("run")
    assert built.exit_code == 1
    assert "numeric(9,0) by contract" in built.output


def test_a_cast_says_that_it_rounds(warehouse: TestDatabase, tmp_path: Path) -> None:
    small = project(warehouse, tmp_path, "select 1.6::numeric(9, 0) as share")
    built = small.dbt("run")
    assert built.exit_code == 0, built.output
    assert small.value("select share from gold.shares") == 2


def test_dbt_alone_rounds_without_a_word(warehouse: TestDatabase, tmp_path: Path) -> None:
    """The fault that the macro is there for."""
    small = project(warehouse, tmp_path, "select 1.6::numeric(12, 4) as share", checked=False)
    assert small.dbt("run").exit_code == 0
    schema = small.value("select relnamespace::regnamespace::text from pg_class where relname = 'shares'")
    assert small.value(f"select share from {schema}.shares") == 2
