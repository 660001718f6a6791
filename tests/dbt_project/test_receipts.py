"""Receipts: each table of gold says what it rests on, and what is wrong with that."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.conftest import TestCluster, fresh_warehouse
from tests.dashboard.served import serving
from tests.dbt_project.built_warehouse import Warehouse
from tests.dbt_project.receipt_defects import DEFECTS, OF_THE_TEST, Defect, load
from tests.docs.markdown import blocks
from tests.flows.front_door import medallion

pytestmark = pytest.mark.xdist_group("dbt")

_LEDGER = """
insert into ops.loads (
    source_system, table_name, strategy, status, rows_read, rows_inserted, rows_updated, rows_unchanged,
    rows_deduplicated, rows_quarantined, rows_deleted, source_rows, raw_rows, quarantine_rows, reconciliation,
    finished_at
)
select substr(schemaname, 5), tablename, 'replace', 'published', 9, 9, 0, 0, 0, 0, 0, 100, 100, 0, 'match', now()
from (select schemaname, tablename from pg_tables union select 'raw_shop', 'promotions') as t
where schemaname like 'raw\\_%'
order by 1, 2
"""
Receipts = Mapping[str, dict[str, Any]]


def as_loader(warehouse: Warehouse, statement: str) -> None:
    with psycopg.connect(warehouse.database.url("loader")) as connection:
        connection.execute(statement.encode())


def receipts(warehouse: Warehouse, relation: str = "receipts_now") -> Receipts:
    return {row["table_name"]: row for row in warehouse.rows(f"select * from gold.{relation}")}


def said(receipt: Mapping[str, Any], column: str = "findings") -> list[tuple[str, str, str]]:
    """Findings, without those of the test's own builds."""
    return [
        (each["level"], each["about"], each["finding"])
        for each in receipt[column]
        if not each["finding"].startswith(tuple(own.finding for own in OF_THE_TEST))
    ]


@pytest.fixture(scope="module")
def clean(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """Everything was loaded, matches its source, and was built. Whoever changes it takes that back."""
    with fresh_warehouse(cluster) as database:
        warehouse = Warehouse(database, tmp_path_factory.mktemp("receipts"))
        warehouse.load_day_one()
        as_loader(warehouse, _LEDGER)
        build = warehouse.build()
        assert build.exit_code == 0, build.output
        yield warehouse


class Seeded:
    """A transaction that is taken back: a defect in the ledger, and what a reader then sees."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.connection = psycopg.connect(warehouse.database.url("admin"), row_factory=dict_row)

    def __enter__(self) -> "Seeded":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.rollback()
        self.connection.close()

    def do(self, statement: str, role: str = "medallion_loader") -> None:
        self.connection.execute(f"set role {role}")
        self.connection.execute(statement.encode())

    def read(self, table: str) -> dict[str, Any]:
        self.connection.execute("set role medallion_reader")
        row = self.connection.execute("select * from gold.receipts_now where table_name = %s", [table]).fetchone()
        assert row is not None
        return row

    def seed(self, defect: Defect) -> None:
        self.do(defect.seed, "medallion_transformer" if "gold." in defect.seed[:20] else "medallion_loader")

    def says(self, defect: Defect) -> bool:
        return any(
            (each["level"], each["about"]) == (defect.level, defect.about) and defect.finding in each["finding"]
            for each in self.read(defect.table)["findings"]
        )


def test_a_clean_build_has_a_receipt_per_table_and_none_says_anything(clean: Warehouse) -> None:
    found = receipts(clean)
    tables = clean.rows(
        "select relname from pg_class where relnamespace = 'gold'::regnamespace and relkind in ('r', 'p') "
        "and not relispartition and relname not like 'receipt%'"
    )
    assert set(found) == {row["relname"] for row in tables}
    assert {table: said(receipt) for table, receipt in found.items() if said(receipt)} == {}
    assert {receipt["problems"] for receipt in found.values()} == {0}
    as_published = receipts(clean, "receipts")
    assert {table: said(receipt) for table, receipt in as_published.items() if said(receipt)} == {}
    assert all(
        receipt["tests_not_run"] == receipt["tests_failed"] == 0 and receipt["tests_passed"] >= 0
        for receipt in as_published.values()
    )


def test_a_receipt_names_its_sources_with_the_load_that_it_has(clean: Warehouse) -> None:
    batches = {
        row["name"]: row["batch_id"]
        for row in clean.rows("select source_system || '.' || table_name as name, batch_id from ops.loads")
    }
    receipt = receipts(clean, "receipts")["fct_redemptions"]
    assert {source["name"]: source["as_of_batch"] for source in receipt["sources"]} == {
        name: batches[name]
        for name in (
            "marketing.campaign_targets", "marketing.campaigns", "marketing.coupons", "marketing.redemptions",
            "shop.households",
        )
    }  # fmt: skip
    assert receipt["sources"][0]["result"] == "match"
    assert receipt["sources"][0]["loaded_at"] is not None
    assert receipt["rows_quarantined"] == 0
    assert receipt["quarantined_share"] == 0
    assert receipts(clean)["agg_daily_sales"]["complete_until"].isoformat() == "2017-12-28"


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_seeded_defect_is_in_the_receipt_and_nothing_else_is(clean: Warehouse, defect: Defect) -> None:
    with Seeded(clean) as seeded:
        assert said(seeded.read(defect.table)) == []
        seeded.seed(defect)
        assert seeded.says(defect), seeded.read(defect.table)["findings"]
        assert {about for _, about, _ in said(seeded.read(defect.table))} == {defect.about} | defect.also_about


def test_a_receipt_that_leaves_out_a_cause_is_caught(clean: Warehouse) -> None:
    """Each line of the function is taken out in turn: then at least one of the defects must not be told any more."""
    (row,) = clean.rows("select pg_get_functiondef('gold.findings_of'::regproc) as text")
    lines = row["text"].splitlines()
    causes = {number: line.rpartition("-- cause: ")[2] for number, line in enumerate(lines) if "-- cause: " in line}
    assert len(causes) >= 20
    unnoticed = []
    for number, cause in causes.items():
        with Seeded(clean) as seeded:
            changed = [*lines]
            changed[number] = _without(lines[number])
            seeded.do("\n".join(changed), "medallion_transformer")
            told = []
            for defect in DEFECTS + OF_THE_TEST:
                seeded.connection.execute("savepoint seeded")
                seeded.seed(defect)
                told.append(seeded.says(defect))
                seeded.connection.execute("rollback to seeded")
        if all(told):
            unnoticed.append(cause)
    assert unnoticed == []


def test_the_command_shows_all_receipts_one_in_full_and_values_for_programs(clean: Warehouse) -> None:
    variables = {
        "MEDALLION_WAREHOUSE_URL": clean.database.url("loader"),
        "MEDALLION_WAREHOUSE_TRANSFORMER_URL": clean.database.url("transformer"),
    }
    shown = medallion("receipt", variables=variables)
    assert shown.code == 0, shown.err
    assert "agg_campaign_lift" in shown.out
    full = medallion("receipt", "gold.fct_basket_lines", variables=variables)
    assert "complete until 2017-12-28" in full.out
    assert "shop.basket_items" in full.out
    assert "note: fct_basket_lines: was built outside of a run" in full.out
    (told,) = json.loads(medallion("receipt", "fct_baskets", "--json", variables=variables).out)
    assert (told["complete_until"], told["tests"]["failed"]) == ("2017-12-28", 0)
    assert {source["result"] for source in told["sources"]} == {"match"}
    as_loader(clean, "update ops.loads set reconciliation = 'missing', missing_rows = 3 where table_name = 'baskets'")
    try:
        worse = medallion("receipt", "fct_baskets", variables=variables)
        assert worse.code == 1
        assert "problem: shop.baskets: 3 rows of the source were missing" in worse.out
        assert "(since it was published)" in worse.out
        assert medallion("receipt", "dim_product", variables=variables).code == 0
    finally:
        as_loader(clean, "update ops.loads set reconciliation = 'match', missing_rows = null")
    unknown = medallion("receipt", "fct_biscuits", variables=variables)
    assert (unknown.code, "fct_biscuits" in unknown.err) == (2, True)


def test_the_queries_of_the_page_about_gold_run_as_a_reader(clean: Warehouse) -> None:
    queries = [block.code for block in blocks("sql") if block.document == "docs/gold.md"]
    assert len(queries) == 4
    with psycopg.connect(clean.database.url("reader")) as reader:
        for query in queries:
            assert reader.execute(query.encode()).fetchall(), query


def test_a_reader_gets_facts_by_receipts_alone_and_changes_none(clean: Warehouse) -> None:
    with psycopg.connect(clean.database.url("reader"), autocommit=True) as reader:
        for statement in (
            "select * from ops.loads", "select * from quarantine.rows", "delete from gold.receipts",
            "update gold.receipt_tests set status = 'passed'",
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(statement.encode())


def test_the_dashboard_shows_receipts_to_analysts_and_viewers(clean: Warehouse) -> None:
    with serving(clean.database) as running:
        for person in ("anna", "vera"):
            text = running.login(person).get("/receipts").text
            assert "No problem is known in 18 tables" in text
            assert 'href="/receipts?table=agg_daily_sales"' in text
            assert text.count('href="/receipts"') == 1  # in the menu
        one = running.login("anna").get("/receipts?table=fct_baskets").text
        for part in ("2017-12-28", "shop.baskets", "match", "was built outside of a run", "as published"):
            assert part in one
        assert running.login("anna").get("/receipts?table=fct_biscuits").status_code == 404


@dataclass(frozen=True)
class Later:
    """Receipts after more builds: `selected`, `day_two` and `refused`."""

    selected: Receipts
    day_two: Receipts
    refused: Receipts
    refused_now: Receipts
    older: int
    newer: int


@pytest.fixture(scope="module")
def later(clean: Warehouse) -> Later:
    """A table of gold built from older tables while the ledger went on; a day with bad rows; a stopped build."""
    newest = "select max(batch_id) from ops.loads where source_system = 'shop' and table_name = 'baskets'"
    older = clean.value(newest)
    as_loader(clean, load(rows_read=1, rows_inserted=1, finished_at="2026-05-04 08:00+00", window_upper="up to here"))
    newer = clean.value(newest)
    assert clean.build("--select", "fct_baskets").exit_code == 0
    selected = receipts(clean, "receipts")
    clean.load("dbt_project/raw_day_two.sql")
    as_loader(clean, load(table_name="products", reconciliation="missing", missing_rows=2))
    assert clean.build().exit_code == 0
    day_two = receipts(clean, "receipts")
    assert clean.build(share=0, floor=0).exit_code != 0
    return Later(selected, day_two, receipts(clean, "receipts"), receipts(clean), older, newer)


def of(receipt: Mapping[str, Any], name: str) -> dict[str, Any]:
    (source,) = [source for source in receipt["sources"] if source["name"] == name]
    return dict(source)


def test_a_table_is_as_of_the_oldest_that_it_was_built_from_not_of_the_newest_load(later: Later) -> None:
    """Its parents were built before a load that the ledger already has."""
    receipt = later.selected["fct_baskets"]
    assert of(receipt, "shop.baskets")["as_of_batch"] == later.older < later.newer
    assert ("note", "shop.baskets", "rows loaded since are not in the table") in said(receipt)


def test_rows_that_silver_quarantined_and_rows_missing_at_the_source_are_told_as_published(later: Later) -> None:
    receipt = later.day_two["fct_basket_lines"]
    assert receipt["quarantined_by"]["quarantine_basket_line"] == 3
    assert receipt["rows_quarantined"] == sum(receipt["quarantined_by"].values())
    assert of(receipt, "shop.baskets")["as_of_batch"] == later.newer
    assert of(receipt, "shop.baskets")["read_to"] == "up to here"
    assert {
        ("note", "quarantine_basket_line", "3 rows are quarantined by rules of silver"),
        ("problem", "shop.products", "2 rows of the source were missing after the load of 2026-05-04 08:00 UTC"),
    } <= {*said(receipt)}
    assert "quarantine_basket_line" not in later.day_two["fct_redemptions"]["quarantined_by"]


def test_a_stopped_build_leaves_the_receipts_as_published_and_tells_which_test_failed_since(later: Later) -> None:
    assert later.refused["fct_basket_lines"] == later.day_two["fct_basket_lines"]
    now = later.refused_now["fct_basket_lines"]
    assert ("problem", "rules_of_shop_are_within_their_limits", "the test failed") in said(now)
    assert ("note", "fct_basket_lines_references_hold", "the test was skipped") in said(now)
    assert (now["tests_failed"], later.refused["fct_basket_lines"]["tests_failed"]) == (1, 0)


def _without(line: str) -> str:
    """A line of the function that finds nothing."""
    code, _, cause = line.rpartition(" -- cause: ")
    if code.lstrip().startswith("("):
        level = "'problem'" if "'problem'" in code else "'note'"
        return f"        ({level}, null::text)" + ("," if code.endswith(",") else "")
    return f"select null, null, null where false -- {cause}"
