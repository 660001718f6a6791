"""A dbt project of four models on nothing, with contracts, that a test may edit: a release of it costs seconds."""

import shutil
from pathlib import Path

import yaml

from tests.conftest import ROOT

PROJECT = {
    "name": "medallion",
    "profile": "medallion",
    "version": "1.0.0",
    "flags": {"send_anonymous_usage_stats": False, "use_colors": False},
    "models": {
        "medallion": {
            "staging": {"+schema": "staging", "+materialized": "view"},
            "silver": {"+schema": "silver", "+materialized": "table"},
            "gold": {"+schema": "gold", "+materialized": "table"},
        }
    },
}
#: A row a day is remembered by the score, which nothing else tells.
MODELS = {
    "staging/stg_sale.sql": "select id, 1 as amount from generate_series(1, 10) as sold (id)",
    "silver/score.sql": "{{ config(materialized='incremental', incremental_strategy='append', full_refresh=false) }}\n"
    "select clock_timestamp() as scored_at, count(*) as sales from {{ ref('stg_sale') }}",
    "gold/mart.sql": "select id, amount, 'kept' as note from {{ ref('stg_sale') }}",
    "gold/total.sql": "select 1 as id, sum(amount)::integer as amount from {{ ref('mart') }}",
    "gold/mart.yml": "models:\n  - name: mart\n    columns:\n      - {name: id, data_tests: [unique, not_null]}\n",
}
CONTRACTS = {
    "gold": "dataset: warehouse/warehouse/gold/mart\ncolumns:\n  - name: amount\n    checks:\n"
    "      - invalid:\n          valid_min: 0\nchecks:\n  - row_count:\n",
    "raw": "dataset: warehouse/warehouse/ops/schema_version\ncolumns:\n  - name: version\nchecks:\n  - row_count:\n",
}


def _query_comment() -> object:
    """That of the real project."""
    return yaml.safe_load((ROOT / "dbt_project" / "dbt_project.yml").read_text(encoding="utf-8"))["query-comment"]


def write_project(folder: Path) -> Path:
    """The project, and its contracts beside it."""
    project = folder / "dbt_project"
    for name, text in MODELS.items():
        file = project / "models" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (project / "dbt_project.yml").write_text(yaml.safe_dump(PROJECT | {"query-comment": _query_comment()}))
    (project / "macros").mkdir()
    macros = [f"macros/{name}.sql" for name in ("generate_schema_name", "keep_permissions", "wait_for_lock")]
    for name in ("profiles.yml", *macros):
        shutil.copy(ROOT / "dbt_project" / name, project / name)
    for gate, text in CONTRACTS.items():
        (folder / f"{gate}.yml").write_text(text)
    return project


def edit(project: Path, model: str, old: str, new: str) -> None:
    """Change a model's text."""
    file = project / "models" / model
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
