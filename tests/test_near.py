"""`make test-near` leaves out no test that a change can reach, and most of those that it cannot."""

import sys

import pytest

from tests import near
from tests.near import ALL, ROOT

pytestmark = pytest.mark.xdist_group("sources")


def reached(*paths: str) -> set[str]:
    return near.near(paths)


def test_a_module_is_reached_through_what_imports_it() -> None:
    found = reached("flows/scoring/logistic.py")
    assert "tests/scoring/test_logistic.py" in found
    assert "tests/flows/test_predict.py" in found, "by the flow, which imports it in a function"
    assert "tests/values/test_widening.py" not in found
    assert "tests/infra/test_process.py" not in found


@pytest.mark.parametrize(
    ("path", "test"),
    [
        ("tests/privacy/one_erasure.py", "tests/privacy/test_erasure.py"),
        ("flows/cli/watch.py", "tests/flows/test_pipeline.py"),
        ("flows/cli/__main__.py", "tests/flows/test_backfill.py"),
    ],
)
def test_what_a_test_starts_as_a_process_reaches_it(path: str, test: str) -> None:
    assert test in reached(path)


def test_a_conftest_reaches_what_is_below_it() -> None:
    found = reached("tests/privacy/conftest.py")
    assert {"tests/privacy/test_erasure.py", "tests/privacy/test_retention.py"} <= found
    assert "tests/access/test_grants.py" not in found
    everything = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    assert reached("tests/conftest.py") == everything
    assert reached("infra/local/ports.py") == everything, "the fixtures of all stand on it"


def test_a_test_that_changed_is_run_and_one_that_is_gone_is_not() -> None:
    assert "tests/state/test_ledger.py" in reached("tests/state/test_ledger.py")
    assert reached("tests/state/test_that_was.py") == set()


def test_tests_that_read_the_sources_are_near_every_change_of_code() -> None:
    readers = {"tests/test_layout.py", "tests/security/test_safe_code.py", "tests/docs/test_examples.py"}
    assert readers <= reached("infra/pulumi/costs.py")


def test_documents_reach_what_reads_documents() -> None:
    found = reached("docs/dlt.md")
    assert {"tests/docs/test_links.py", "tests/docs/test_commands.py"} <= found
    assert "tests/publish/test_types.py" not in found


@pytest.mark.parametrize(
    "path", ["flows/state/schema.sql", "dbt_project/models/gold/dim_date.sql", "uv.lock", "flows/that_was.py"]
)
def test_what_nobody_can_follow_makes_all_tests_near(path: str) -> None:
    assert reached("docs/dlt.md", path) == ALL


def test_the_program_prints_files_for_pytest_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["near", "HEAD"])
    near.main()
    printed = capsys.readouterr()
    assert "near" in printed.err
    assert all((ROOT / path).exists() for path in printed.out.split())
