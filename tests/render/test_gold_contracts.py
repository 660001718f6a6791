"""Gold's contracts, rendered from the dbt properties files and the checks written by hand."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.quality.contracts import validate_contract
from flows.render import check, write
from flows.render.gold_contracts import gold_contracts, gold_tables, write_gold_contract
from flows.values.errors import DeclarationError

PROPERTIES = """
models:
  - name: fct_sales
    description: >
      One row per sale,
      at a till.
    columns:
      - name: sale_id
        data_type: bigint
        constraints: [{type: not_null}, {type: primary_key}]
      - {name: amount, data_type: "numeric(14,2)", constraints: [{type: not_null}]}
      - {name: sold_at, data_type: timestamp(3) with time zone}
  - name: agg_sales
    constraints: [{type: primary_key, columns: [sold_on, site]}]
    columns:
      - {name: sold_on, data_type: date}
      - {name: site, data_type: text}
      - {name: amount, data_type: numeric}
"""
VERSIONED = """
models:
  - name: dim_site
    latest_version: 2
    columns:
      - {name: site_id, data_type: bigint, constraints: [{type: primary_key}]}
      - {name: is_deleted, data_type: boolean}
    versions:
      - {v: 1, config: {alias: dim_site}}
      - v: 2
        columns:
          - {include: all, exclude: [is_deleted]}
          - {name: is_closed, data_type: boolean}
"""
CHECKS = """
columns:
  amount:
    # Refunds have a table of their own.
    - invalid: {valid_min: 0}
checks:
  - row_count:
"""


@pytest.fixture
def project(root: Path) -> Path:
    for name, text in {
        "dbt_project/models/gold/fct_sales.yml": PROPERTIES,
        "dbt_project/models/gold/dim_site.yml": VERSIONED,
        "dbt_project/models/gold/metrics.yml": "metrics: []",
        "soda/gold_checks/fct_sales.yml": CHECKS,
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def contract(project: Path, name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(gold_contracts(project)[project / f"soda/gold/{name}.yml"])
    return document


def test_a_contract_joins_what_dbt_says_with_the_checks_written_by_hand(project: Path) -> None:
    assert contract(project, "fct_sales") == {
        "dataset": "warehouse/warehouse/gold/fct_sales",
        "description": "One row per sale, at a till.",
        "columns": [
            {"name": "sale_id", "data_type": "bigint", "checks": [{"missing": None}, {"duplicate": None}]},
            {"name": "amount", "data_type": "numeric", "checks": [{"invalid": {"valid_min": 0}}]},
            {"name": "sold_at", "data_type": "timestamp with time zone"},
        ],
        "checks": [{"schema": None}, {"row_count": None}],
    }


def test_columns_of_a_composite_key_are_not_unique_alone(project: Path) -> None:
    columns = contract(project, "agg_sales")["columns"]
    assert [column.get("checks") for column in columns] == [[{"missing": None}], [{"missing": None}], None]


def test_each_version_of_a_model_has_a_contract(project: Path) -> None:
    tables = gold_tables(project / "dbt_project/models/gold/dim_site.yml")
    assert {table.name: [name for name, _ in table.columns] for table in tables} == {
        "dim_site": ["site_id", "is_deleted"],
        "dim_site_v2": ["site_id", "is_closed"],
    }


def test_rendered_contracts_are_ones_that_soda_understands(project: Path) -> None:
    paths = [write_gold_contract(name, project) for name in ("fct_sales", "agg_sales", "dim_site", "dim_site_v2")]
    assert [validate_contract(path) for path in paths] == [[], [], [], []]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('name: amount, data_type: "numeric(14,2)"', "name: amount, data_type: bigint"),
        ("name: sold_at", "name: sold_until"),
        ("{type: not_null}, {type: primary_key}", "{type: not_null}"),
        ("at a till", "at the door"),
        ("      - {name: sold_at, data_type: timestamp(3) with time zone}\n", ""),
    ],
    ids=["type", "column", "key", "description", "fewer columns"],
)
def test_an_edited_properties_file_makes_its_contract_differ(project: Path, before: str, after: str) -> None:
    write((), project)
    assert check((), project) == []
    properties = project / "dbt_project/models/gold/fct_sales.yml"
    properties.write_text(PROPERTIES.replace(before, after))
    assert check((), project) == [project / "soda/gold/fct_sales.yml"]


def test_an_edited_check_a_contract_written_by_hand_and_a_removed_model_are_noticed(project: Path) -> None:
    write((), project)
    (project / "soda/gold_checks/fct_sales.yml").write_text(CHECKS.replace("valid_min: 0", "valid_min: 1"))
    (project / "soda/gold/by_hand.yml").write_text("dataset: x")
    (project / "dbt_project/models/gold/dim_site.yml").unlink()
    assert [path.stem for path in check((), project)] == ["by_hand", "dim_site", "dim_site_v2", "fct_sales"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gone", CHECKS, "no model gone"),
        ("dim_site", CHECKS, "dim_site has no column amount.*choose among site_id, is_deleted"),
        ("dim_site", "check: []", "only `columns` and `checks`"),
        ("dim_site", "- row_count:", "not a mapping"),
        ("dim_site", "checks: [", "not YAML"),
    ],
)
def test_checks_that_fit_no_table_are_refused(project: Path, name: str, text: str, message: str) -> None:
    (project / f"soda/gold_checks/{name}.yml").write_text(text)
    with pytest.raises(DeclarationError, match=rf"(?s){message}"):
        gold_contracts(project)
