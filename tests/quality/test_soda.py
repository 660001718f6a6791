"""The gate against a real PostgreSQL: what passes, what closes it, and what never leaves it."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import yaml

from flows.quality.contracts import validate_contract
from flows.quality.soda import CheckResult, verify
from flows.values.errors import ConfigurationError, WarehouseError
from tests.conftest import ROOT, TestDatabase

WriteContract = Callable[[str], Path]

GOOD = """
dataset: warehouse/somewhere_else/raw_shop/baskets
columns:
  - name: basket_id
    data_type: bigint
    checks:
      - missing:
      - duplicate:
  - name: sold_at
    data_type: timestamp with time zone
checks:
  - schema:
      allow_extra_columns: true
  - row_count:
"""


@pytest.fixture
def contract(tmp_path: Path) -> WriteContract:
    def write(text: str) -> Path:
        path = tmp_path / f"contract_{len(list(tmp_path.iterdir()))}.yml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def url(warehouse: TestDatabase) -> str:
    """The address of a warehouse with three baskets, one of them with an odd note."""
    with psycopg.connect(warehouse.url("loader")) as connection:
        connection.execute("create schema raw_shop")
        connection.execute("create table raw_shop.baskets (basket_id bigint, sold_at timestamptz, note text)")
        connection.execute(
            "insert into raw_shop.baskets values (1, now(), 'a'), (2, now(), 'secret-note'), (3, 'infinity', null)"
        )
    return warehouse.url("transformer")


def outcomes(results: list[CheckResult]) -> dict[str, str]:
    return {f"{result.column or ''}.{result.check}": result.outcome for result in results}


def test_a_sound_table_opens_the_gate_whatever_database_the_contract_names(url: str, contract: WriteContract) -> None:
    results = verify([contract(GOOD)], url, gate="raw")
    assert outcomes(results) == {
        "basket_id.missing": "passed",
        "basket_id.duplicate": "passed",
        ".schema": "passed",
        ".row_count": "passed",
    }
    assert {result.dataset for result in results} == {"raw_shop.baskets"}
    assert next(result.measured for result in results if result.check == "row_count") == 3
    assert not any(result.blocks for result in results)


def test_a_failed_check_tells_the_number_and_the_bound(url: str, contract: WriteContract) -> None:
    path = contract(GOOD.replace("  - row_count:", "  - row_count:\n      threshold: {must_be: 4}"))
    (failed,) = [result for result in verify([path], url, gate="raw") if result.blocks]
    assert (failed.check, failed.outcome, failed.measured) == ("row_count", "failed", 3)
    assert "3" in failed.message
    assert "must be: 4" in failed.message


def test_a_query_that_breaks_closes_the_gate(url: str, contract: WriteContract) -> None:
    """Soda itself calls such a contract not failed."""
    path = contract(GOOD.replace("name: basket_id", "name: basket_number"))
    results = verify([path], url, gate="raw")
    assert outcomes(results)["basket_number.missing"] == "not_evaluated"
    assert outcomes(results)[".contract"] == "error"
    assert any('column "basket_number" does not exist' in result.message for result in results)
    assert all(result.blocks for result in results if result.outcome in ("not_evaluated", "error", "failed"))


def test_a_missing_table_closes_the_gate(url: str, contract: WriteContract) -> None:
    results = verify([contract(GOOD.replace("raw_shop/baskets", "raw_shop/trolleys"))], url, gate="raw")
    assert results
    assert all(result.blocks for result in results)


def test_a_table_one_may_not_read_closes_the_gate_and_says_so(
    warehouse: TestDatabase, url: str, contract: WriteContract
) -> None:
    results = verify([contract(GOOD)], warehouse.url("reader"), gate="gold")
    assert any("permission denied" in result.message for result in results)
    assert any(result.blocks for result in results)


def test_a_misspelt_key_closes_the_gate_before_anything_runs(url: str, contract: WriteContract) -> None:
    """Soda ignores `treshold`, so `must_be: 4` would silently become "anything above 0"."""
    path = contract(GOOD.replace("  - row_count:", "  - row_count:\n      treshold: {must_be: 4}"))
    results = verify([path], url, gate="raw")
    assert [(result.check, result.outcome) for result in results] == [("contract", "error")]
    assert "treshold" in results[0].message


def test_one_bad_contract_does_not_hide_the_others(url: str, contract: WriteContract) -> None:
    results = verify([contract("nonsense: ["), contract(GOOD)], url, gate="raw")
    assert {result.outcome for result in results} == {"error", "passed"}
    assert len(results) == 5


def test_a_warning_is_told_and_does_not_close_the_gate(url: str, contract: WriteContract) -> None:
    path = contract(
        GOOD.replace("- row_count:", "- row_count:\n      threshold: {level: warn, must_be_greater_than: 9}")
    )
    (warned,) = [result for result in verify([path], url, gate="raw") if result.outcome != "passed"]
    assert (warned.outcome, warned.blocks) == ("warned", False)


def test_a_wrong_type_and_a_missing_column_are_named(url: str, contract: WriteContract) -> None:
    text = GOOD.replace("data_type: timestamp with time zone", "data_type: text") + "\n"
    path = contract(text.replace("checks:\n  - schema", "  - name: gone\nchecks:\n  - schema"))
    (schema,) = [result for result in verify([path], url, gate="raw") if result.check == "schema"]
    assert "missing columns: gone" in schema.message
    assert "sold_at: timestamp with time zone instead of text" in schema.message


def test_values_of_rows_reach_neither_results_nor_logs(
    url: str, contract: WriteContract, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """PostgreSQL quotes the value that it could not cast, and soda logs that message with the query."""
    caplog.set_level(logging.DEBUG)
    path = contract(
        GOOD + "  - metric:\n      query: select max(note)::int from raw_shop.baskets\n"
        "      threshold: {must_be_less_than: 1}\n"
    )
    results = verify([path], url, gate="raw")
    assert outcomes(results)[".metric"] == "not_evaluated"
    printed = "".join(capfd.readouterr())
    for text in (str(results), caplog.text, printed):
        assert "secret-note" not in text
    assert not [record for record in caplog.records if record.name == "soda" and record.levelno > logging.DEBUG]


def test_a_prefix_leads_to_the_developers_own_schema(
    warehouse: TestDatabase, url: str, contract: WriteContract
) -> None:
    with psycopg.connect(warehouse.url("loader")) as connection:
        connection.execute("alter schema raw_shop rename to mine_raw_shop")
    results = verify([contract(GOOD)], url, gate="gold", schema_prefix="mine_")
    assert {result.dataset for result in results} == {"mine_raw_shop.baskets"}
    assert not any(result.blocks for result in results)


def test_a_wrong_password_is_refused_without_naming_it(url: str, contract: WriteContract) -> None:
    wrong = url.replace(url.split(":")[2].split("@")[0], "wrong-pass")
    with pytest.raises(ConfigurationError) as refused:
        verify([contract(GOOD)], wrong, gate="raw")
    assert "wrong-pass" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert not refused.value.retryable


def test_a_password_that_looks_like_a_variable_is_taken_as_it_is(
    warehouse: TestDatabase, url: str, contract: WriteContract
) -> None:
    """Written into a YAML text, soda would replace `${env.HOME}` by the home directory."""
    role = f"odd_{warehouse.name}"
    with psycopg.connect(warehouse.url("admin"), autocommit=True) as admin:
        admin.execute(f"create role {role} login password '${{env.HOME}}@:/x' in role medallion_transformer")
        admin.execute(f"grant connect on database {warehouse.name} to {role}")
        try:
            place = url.rpartition("@")[2]
            results = verify([contract(GOOD)], f"postgresql://{role}:${{env.HOME}}%40%3A%2Fx@{place}", gate="raw")
        finally:
            admin.execute(f"revoke connect on database {warehouse.name} from {role}")
            admin.execute(f"drop role {role}")
    assert not any(result.blocks for result in results)


def test_a_dotenv_file_beside_the_project_changes_nothing_in_the_middle_of_a_run(
    url: str, contract: WriteContract, tmp_path: Path
) -> None:
    """Soda looks for one in every folder above its own, and `.venv` stands inside the project."""
    dotenv = tmp_path / "elsewhere.env"
    dotenv.write_text("MEDALLION_WAREHOUSE_URL=postgresql://elsewhere/w\n")
    program = (
        "import os, sys, pathlib, dotenv.main\n"
        "dotenv.main.find_dotenv = lambda *a, **k: sys.argv[1]\n"
        "from flows.quality.soda import verify\n"
        "results = verify([pathlib.Path(sys.argv[2])], sys.stdin.read(), gate='raw')\n"
        "print(len(results), [name for name in os.environ if name.endswith(('_URL', 'DISABLED', 'TELEMETRY'))])\n"
    )
    ours = ("PREFECT_API_URL", "RUNTIME__DLTHUB_TELEMETRY")  # set for all tests
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        [sys.executable, "-c", program, str(dotenv), str(contract(GOOD))],
        input=url,
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "4 []\n"


def test_a_warehouse_that_does_not_answer_can_be_tried_again(contract: WriteContract) -> None:
    with pytest.raises(WarehouseError) as refused:
        verify([contract(GOOD)], "postgresql://loader:pw@127.0.0.1:1/warehouse", gate="raw")
    assert refused.value.retryable


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GOOD.replace("allow_extra_columns", "allow_extra_colums"), "allow_extra_colums"),
        (GOOD.replace("- duplicate:", "- duplicates:"), "duplicates"),
        (GOOD.replace("columns:\n  - name", "colums:\n  - name"), "colums"),
        (GOOD.replace("dataset: warehouse/somewhere_else/raw_shop/baskets", "description: x"), "dataset"),
        (GOOD.replace("warehouse/somewhere_else/raw_shop/baskets", "baskets"), "warehouse/<database>"),
        ("dataset: warehouse/w/raw_shop/baskets\ncolumns: [{name: a}]", "no check"),
        ("- a list", "object"),
        ("a: [", "line"),
        ("", "object"),
    ],
)
def test_a_contract_that_soda_would_misread_is_named(contract: WriteContract, text: str, problem: str) -> None:
    assert problem in "\n".join(validate_contract(contract(text)))


def test_a_contract_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert validate_contract(tmp_path / "gone.yml") == ["cannot be read: FileNotFoundError"]


CONTRACTS = sorted(path for gate in ("raw", "gold") for path in (ROOT / "soda" / gate).rglob("*.yml"))


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.stem)
def test_every_contract_of_this_project_holds_to_sodas_schema(path: Path) -> None:
    assert validate_contract(path) == []
    assert yaml.safe_load(path.read_text())["dataset"].endswith(f"/{path.stem}")


def test_freshness_of_an_empty_table_closes_the_gate_instead_of_breaking_it(
    url: str, warehouse: TestDatabase, contract: WriteContract
) -> None:
    with psycopg.connect(warehouse.url("loader")) as connection:
        connection.execute("truncate raw_shop.baskets")
    results = verify(
        [
            contract(
                GOOD
                + "  - freshness:\n      column: sold_at\n"
                + "      threshold:\n        unit: hour\n        must_be_less_than: 1\n"
            )
        ],
        url,
        gate="raw",
    )
    fresh = next(result for result in results if result.check == "freshness")
    assert fresh.blocks
    assert "nothing to measure" in fresh.message or fresh.outcome == "not_evaluated"
