"""Receipts through transforms, a release and the way back, on the small project with one source."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.models.rollback import roll_back_models
from flows.release import release
from flows.transform import transform
from flows.values.errors import WarehouseError
from tests.conftest import ROOT, TestDatabase
from tests.flows.small_project import edit
from tests.kinds.loading import rows
from tests.publish.two_ends import run_sql

# One worker builds the shared schemas that the tests take copies of.
pytestmark = pytest.mark.xdist_group("release")

_ORDERS = "create schema raw_shop; create table raw_shop.orders as select n as id from generate_series(1, 10) as n"
_LOAD = """
insert into ops.loads (source_system, table_name, strategy, status, rows_read, rows_inserted, rows_updated,
    rows_unchanged, rows_deduplicated, rows_quarantined, rows_deleted, source_rows, raw_rows, quarantine_rows,
    reconciliation, finished_at)
values ('shop', 'orders', 'merge', 'published', {rows}, {rows}, 0, 0, 0, 0, 0, 10, 10, 0, 'match', now())
returning batch_id
"""
NEWER = "rows loaded since are not in the table"


@pytest.fixture
def with_receipts(shared: TestDatabase, project: Path) -> Path:
    """The small project with the receipts of the real one, on a table that was loaded once."""
    shutil.copytree(ROOT / "dbt_project/macros/receipts", project / "macros/receipts")
    real = yaml.safe_load((ROOT / "dbt_project/dbt_project.yml").read_text(encoding="utf-8"))
    file = project / "dbt_project.yml"
    ours = yaml.safe_load(file.read_text())
    ours["on-run-start"] = [hook for hook in real["on-run-start"] if "receipt" in hook]
    ours["on-run-end"] = real["on-run-end"]
    for layer in ("silver", "gold"):
        hooks = {key: real["models"]["medallion"][layer][key] for key in ("+pre-hook", "+post-hook")}
        ours["models"]["medallion"][layer] |= hooks
    file.write_text(yaml.safe_dump(ours))
    source = {"name": "shop", "schema": "raw_shop", "tables": [{"name": "orders"}]}
    (project / "models/sources.yml").write_text(yaml.safe_dump({"sources": [source]}))
    edit(project, "staging/stg_sale.sql", "generate_series(1, 10) as sold (id)", "{{ source('shop', 'orders') }}")
    run_sql(shared.url("loader"), _ORDERS)
    return project


def loaded(database: TestDatabase, changed: int) -> int:
    """A load of the source's table, of which so many rows were new. Returns its number."""
    ((number,),) = run_sql(database.url("loader"), _LOAD.format(rows=changed))
    return int(number)


def receipts(database: TestDatabase, relation: str = "gold.receipts") -> dict[str, dict[str, Any]]:
    """As readers see them."""
    found = run_sql(
        database.url("reader"),
        f"select table_name, row_to_json(r) from {relation} as r",
    )
    return dict(found)


def has_load(receipt: dict[str, Any], field: str = "as_of_batch") -> int:
    (source,) = receipt["sources"]
    return int(source[field])


def told(database: TestDatabase) -> set[tuple[str, str]]:
    """What is known now of any table."""
    found = receipts(database, "gold.receipts_now")
    return {(table, each["finding"]) for table, receipt in found.items() for each in receipt["findings"]}


def test_a_receipt_is_kept_with_its_table_and_what_is_known_since_is_told_beside_it(
    shared: TestDatabase, with_receipts: Path
) -> None:
    first = loaded(shared, 10)
    facts = transform()
    clean = receipts(shared)
    (run,) = rows(shared, "select max(run_id) as run_id from ops.runs")
    assert set(clean) == {"mart", "total"}
    assert {each["run_id"] for each in clean.values()} == {run["run_id"]}
    assert {each["models"] for each in clean.values()} == {facts["models"]}
    assert {has_load(each) for each in clean.values()} == {first}
    assert clean["mart"]["tests_passed"] == 2
    assert told(shared) == set()

    # New rows are not in the tables, until a transform has found that they change nothing.
    second = loaded(shared, 1)
    assert told(shared) == {("mart", NEWER), ("total", NEWER)}
    transform()
    assert told(shared) == set()
    kept = receipts(shared)
    assert kept["total"] == clean["total"]
    assert has_load(receipts(shared, "gold.receipts_now")["total"], "holds_batch") == second

    # What fails after its receipt was written leaves neither rows nor receipt.
    edit(with_receipts, "gold/total.sql", "select 1 as id", "{{ config(post_hook='select 1 / 0') }} select 2 as id")
    with pytest.raises(WarehouseError):
        transform()
    assert run_sql(shared.url("reader"), "select id from gold.total") == [(1,)]
    assert receipts(shared)["total"] == kept["total"]

    # What a comparison finds since is told now, and is not written into what was published.
    run_sql(
        shared.url("loader"),
        "insert into ops.reconciliations (source_system, table_name, method, result, buckets, drilled, missing, extra, "
        "different, quarantined, pending, repaired, seconds, keys) "
        "values ('shop', 'orders', 'content', 'different', 1, 1, 2, 0, 0, 0, 0, 0, 0.1, '{}')",
    )
    assert any("rows missing 2" in finding for _, finding in told(shared))
    assert receipts(shared)["total"] == kept["total"]


def test_a_release_brings_its_receipts_and_a_rollback_the_former_ones(
    shared: TestDatabase, with_receipts: Path
) -> None:
    first = loaded(shared, 10)
    transform()
    former = receipts(shared)
    second = loaded(shared, 1)
    edit(with_receipts, "gold/mart.sql", "'kept' as note", "'new' as note")
    facts = release()
    released = receipts(shared)
    assert {has_load(each) for each in released.values()} == {second}
    assert {each["models"] for each in released.values()} == {facts["models"]} != {former["mart"]["models"]}
    assert told(shared) == set()
    loaded(shared, 1)
    transform()
    assert told(shared) == set()

    roll_back_models("Ada")

    assert receipts(shared) == former
    assert {has_load(each) for each in former.values()} == {first}
    # That the last transform found its tables up to date says nothing of these.
    assert told(shared) == {("mart", NEWER), ("total", NEWER)}
