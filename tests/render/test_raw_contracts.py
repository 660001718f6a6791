"""The contracts of raw, run by the real gate on tables as ingest leaves them."""

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from flows.declare.source import Source
from flows.quality.contracts import validate_contract
from flows.quality.soda import CheckResult, verify
from flows.render.raw_contracts import raw_contract
from tests.conftest import TestDatabase

METADATA = (
    "_extracted_at timestamptz not null, _source_system text not null, _batch_id bigint not null, "
    "_deleted_at timestamptz"
)
TABLES = {
    "raw_stock.levels": f"site_id int, product_id bigint, level int, kind text, changed_at timestamptz, {METADATA}",
    "raw_stock.moves": f"move_id bigint, {METADATA}",
    "raw_stock.sites": f"site_id int, {METADATA}",
    "raw_stock.counts": f"counted_at date, {METADATA}",
    "raw_weather.stations": f"id uuid, payload jsonb, {METADATA}",
    "raw_weather.readings": f"id text, read_at timestamptz, payload jsonb, {METADATA}",
    "raw_crm.contacts": f"account text, id bigint, changed timestamptz, payload jsonb, {METADATA}",
    "raw_crm.orders": f"order_id int, total numeric(10,2), {METADATA}",
    "raw_crm.stages": f"id text, payload jsonb, {METADATA}",
}
ROWS = {
    "raw_stock.levels": "1, 1, 5, null, now()",
    "raw_stock.sites": "1",
    "raw_stock.counts": "'2024-01-01'",
    "raw_weather.stations": "gen_random_uuid(), '{}'",
    "raw_weather.readings": "'a', now(), '{}'",
    "raw_crm.contacts": "'a', 1, now(), '{}'",
    "raw_crm.orders": "1, 9.99",
    "raw_crm.stages": "'a', '{}'",
}


@pytest.fixture
def contracts(sources: tuple[Source, ...], tmp_path: Path) -> dict[str, Path]:
    paths = {}
    for source in sources:
        for table in source.tables:
            path = tmp_path / f"{table.name}.yml"
            path.write_text(raw_contract(source, table))
            paths[table.name] = path
    return paths


@pytest.fixture
def raw(warehouse: TestDatabase) -> TestDatabase:
    """Raw as ingest leaves it a month after its rows last changed, and an hour after it last looked."""
    with psycopg.connect(warehouse.url("loader")) as connection:
        connection.execute("create schema raw_stock")
        connection.execute("create schema raw_weather")
        connection.execute("create schema raw_crm")
        for name, columns in TABLES.items():
            connection.execute(f"create table {name} ({columns})")
            if name in ROWS:
                connection.execute(
                    f"insert into {name} values ({ROWS[name]}, now() - interval '30 days', 's', 1, null)"
                )
        loaded(connection, "1 hour")
    return warehouse


def loaded(connection: psycopg.Connection, ago: str) -> None:
    """A load of every table, that long ago, which found nothing new."""
    connection.execute("delete from ops.loads")
    for name in TABLES:
        schema, table = name.split(".")
        connection.execute(
            "insert into ops.loads (source_system, table_name, strategy, status, rows_read, rows_inserted,"
            " rows_updated, rows_unchanged, rows_deduplicated, rows_quarantined, finished_at)"
            " values (%s, %s, 'merge', 'published', 0, 0, 0, 0, 0, 0, now() - %s::interval)",
            (schema.removeprefix("raw_"), table, ago),
        )


def gate(raw: TestDatabase, *contracts: Path) -> list[CheckResult]:
    return verify(contracts, raw.url("transformer"), gate="raw")


def noticed(results: list[CheckResult]) -> dict[str, str]:
    return {
        f"{result.dataset.split('.')[1]}.{result.check}": result.outcome
        for result in results
        if result.outcome != "passed"
    }


def test_every_rendered_contract_is_one_that_soda_understands(contracts: dict[str, Path]) -> None:
    assert {name: validate_contract(path) for name, path in contracts.items()} == {name: [] for name in contracts}


def test_raw_in_which_nothing_happened_for_a_month_opens_the_gate(
    raw: TestDatabase, contracts: dict[str, Path]
) -> None:
    """The gate must not cry wolf: rows may rest as long as somebody looked. An empty log is worth a warning."""
    assert noticed(gate(raw, *contracts.values())) == {"moves.row_count": "warned"}


@pytest.mark.parametrize(("declared", "outcome"), [(True, "warned"), (False, "failed")])
def test_a_table_without_rows_closes_the_gate_unless_it_is_declared_to_be_empty_at_times(
    raw: TestDatabase, sources: tuple[Source, ...], tmp_path: Path, declared: bool, outcome: str
) -> None:
    (sites,) = [(source, table) for source in sources for table in source.tables if table.name == "sites"]
    contract = tmp_path / "sites.yml"
    contract.write_text(raw_contract(sites[0], replace(sites[1], may_be_empty=declared)))  # type: ignore[type-var]
    with psycopg.connect(raw.url("loader")) as connection:
        connection.execute("truncate raw_stock.sites")
    assert noticed(gate(raw, contract)) == {"sites.row_count": outcome}


@pytest.mark.parametrize(
    ("ago", "outcome"), [("9 days 1 hour", "warned"), ("30 days 1 hour", "failed"), ("8 days", "passed")]
)
def test_a_table_nobody_looked_at_warns_and_then_closes_the_gate(
    raw: TestDatabase, contracts: dict[str, Path], ago: str, outcome: str
) -> None:
    """The source is read on working days: three missed reads are nine days, ten are thirty."""
    with psycopg.connect(raw.url("loader")) as connection:
        loaded(connection, ago)
    (age,) = [result for result in gate(raw, contracts["sites"]) if result.check == "metric.freshness"]
    assert age.outcome == outcome


def test_a_table_that_was_never_loaded_closes_the_gate(raw: TestDatabase, contracts: dict[str, Path]) -> None:
    with psycopg.connect(raw.url("loader")) as connection:
        connection.execute("delete from ops.loads")
    assert noticed(gate(raw, contracts["sites"]))["sites.metric.freshness"] == "not_evaluated"


@pytest.mark.parametrize(
    ("statement", "table", "check"),
    [
        ("update raw_stock.levels set level = -1, kind = 'x'", "levels", "failed_rows.level_not_negative"),
        ("insert into raw_stock.levels select * from raw_stock.levels", "levels", "duplicate"),
        ("update raw_stock.levels set site_id = null", "levels", "missing"),
        ("alter table raw_stock.levels drop column _batch_id", "levels", "schema"),
        ("alter table raw_weather.readings alter payload type json", "readings", "schema"),
        ("update raw_weather.readings set payload = null", "readings", "missing"),
        ("insert into raw_weather.readings select * from raw_weather.readings", "readings", "duplicate"),
        ("truncate raw_stock.sites", "sites", "row_count"),
    ],
)
def test_a_fault_in_raw_closes_the_gate(
    raw: TestDatabase, contracts: dict[str, Path], statement: str, table: str, check: str
) -> None:
    with psycopg.connect(raw.url("loader")) as connection:
        connection.execute(statement)
    results = gate(raw, contracts[table])
    assert [result.outcome for result in results if result.check == check and result.blocks]


def test_a_new_column_at_the_source_does_not_close_the_gate(raw: TestDatabase, contracts: dict[str, Path]) -> None:
    with psycopg.connect(raw.url("loader")) as connection:
        connection.execute("alter table raw_stock.sites add column opened_on date")
    assert noticed(gate(raw, contracts["sites"])) == {}


def test_a_rule_is_silent_about_null_as_it_is_at_the_door(raw: TestDatabase, contracts: dict[str, Path]) -> None:
    with psycopg.connect(raw.url("loader")) as connection:
        connection.execute("update raw_stock.levels set level = null")
    assert noticed(gate(raw, contracts["levels"])) == {}
