"""A contract's last result holds until its table, its text, or an age in it passes a limit."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.models.selective.contracts import Contract, checked, holds, read_contract
from flows.models.selective.positions import Position
from flows.state.model_builds import ModelBuild
from tests.conftest import ROOT

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
TABLE = Position("1.2", "a")


@pytest.fixture
def contract() -> Contract:
    """With a warning from an age of 36 hours, and a failure from 168."""
    found = read_contract(ROOT / "soda/raw/shop/products.yml", "raw")
    assert found is not None
    return found


def result(hours: float, *, blocks: bool = False) -> Mapping[str, Any]:
    return {"check": "metric.freshness", "measured": hours, "blocks": blocks}


def test_it_holds_while_the_table_is_the_same(contract: Contract) -> None:
    record = checked(contract, TABLE, [result(1)], run_id=7, now=NOW)
    assert contract.dataset == "raw_shop.products"
    assert holds(contract, record, TABLE, NOW + timedelta(hours=1))


def test_it_is_verified_again_when_rows_were_written_or_its_text_has_changed(contract: Contract) -> None:
    record = checked(contract, TABLE, [result(1)], run_id=7, now=NOW)
    assert not holds(contract, record, Position("1.2", "b"), NOW)
    assert not holds(contract, record, None, NOW)
    assert not holds(contract, record, Position("1.2", None), NOW)
    assert not holds(replace(contract, text=contract.text + "\n"), record, TABLE, NOW)


def test_a_table_that_nobody_loads_is_verified_again_when_it_gets_too_old(contract: Contract) -> None:
    """From 36 hours it is a warning, from 168 a failure; and once a day in any case."""
    record = checked(contract, TABLE, [result(34)], run_id=7, now=NOW)
    assert holds(contract, record, TABLE, NOW + timedelta(hours=1, minutes=59))
    assert not holds(contract, record, TABLE, NOW + timedelta(hours=2))
    record = checked(contract, TABLE, [result(150)], run_id=7, now=NOW)
    assert holds(contract, record, TABLE, NOW + timedelta(hours=17))
    assert not holds(contract, record, TABLE, NOW + timedelta(hours=18))
    record = checked(contract, TABLE, [result(1)], run_id=7, now=NOW)
    assert not holds(contract, record, TABLE, NOW + timedelta(hours=24))


def test_a_check_that_did_not_pass_is_verified_again_until_it_does(contract: Contract) -> None:
    assert not holds(contract, checked(contract, TABLE, [result(1, blocks=True)], 7, NOW), TABLE, NOW)
    assert not holds(contract, checked(contract, TABLE, [], 7, NOW), TABLE, NOW)


def test_an_age_that_was_not_measured_is_verified_each_time(contract: Contract) -> None:
    unmeasured = [{"check": "schema", "measured": None, "blocks": False}]
    assert not holds(contract, checked(contract, TABLE, unmeasured, 7, NOW), TABLE, NOW)


def test_what_was_never_verified_does_not_hold(contract: Contract) -> None:
    assert not holds(contract, None, TABLE, NOW)
    assert not holds(contract, ModelBuild("", {}), TABLE, NOW)


def test_every_limit_of_an_age_in_our_contracts_is_found() -> None:
    """Otherwise a table could grow old unnoticed for a day."""
    for path in (ROOT / "soda").glob("*/**/*.yml"):
        if path.parent.name == "gold_checks" or "freshness" not in path.read_text(encoding="utf-8"):
            continue
        found = read_contract(path, "raw")
        assert found is not None
        age = [{"check": "freshness", "measured": 0.5, "blocks": False}]
        long_ago = checked(found, TABLE, [{**age[0], "measured": 71.9 if path.parent.name == "gold" else 35.9}], 1, NOW)
        assert not holds(found, long_ago, TABLE, NOW + timedelta(minutes=7)), path


@pytest.mark.parametrize(
    "check",
    [
        "query: 'select 1 from raw_shop.products as p, raw_shop.stores as s'",
        "valid_reference_data: {dataset: warehouse/medallion/gold/dim_product}",
    ],
)
def test_a_contract_that_reads_another_table_is_verified_each_time(contract: Contract, check: str) -> None:
    other = replace(contract, text=f"{contract.text}\nmore: {{{check}}}\n")
    assert not holds(other, checked(other, TABLE, [result(1)], 7, NOW), TABLE, NOW)


def test_no_contract_of_the_gates_reads_another_table() -> None:
    """Or an unchanged run would have to start Soda for it."""
    for gate in ("raw", "gold"):
        for path in (ROOT / "soda" / gate).rglob("*.yml"):
            found = read_contract(path, gate)
            assert found is not None
            assert not found.reads_others, path.name
