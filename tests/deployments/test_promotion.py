"""Gates between two environments, each with a warehouse of its own, and the record of who let what pass."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deployments.promotion import GateResult, Promotion, examine, uncommitted
from flows.models.fingerprint import commit, fingerprint
from flows.sources import SOURCES
from flows.values.connection import DatabaseConnection
from flows.values.settings import settings
from tests.conftest import TestCluster, TestDatabase, fresh_warehouse
from tests.flows.front_door import medallion
from tests.kinds.loading import rows
from tests.publish.two_ends import run_sql

GOLD = "create table gold.dim_store (store_id bigint, store_name text)"


@pytest.fixture
def staging(cluster: TestCluster) -> Iterator[TestDatabase]:
    """The environment before: every table loaded, these models built, all checks passed."""
    with fresh_warehouse(cluster) as database:
        with psycopg.connect(database.url("loader")) as connection:
            connection.execute(
                "insert into ops.runs (pipeline, status, finished_at, details) values ('transform', 'done', now(), "
                "jsonb_build_object('models', %s::text, 'nodes', 104, 'full_build', true))",
                [fingerprint()],
            )
            for gate in ("raw", "gold"):
                connection.execute(
                    "insert into ops.check_results (run_id, gate, dataset, check_name, outcome) "
                    "select 1, %s, 'a.b', 'c' || n, 'passed' from generate_series(1, 3) as n",
                    [gate],
                )
            for source in SOURCES:
                for table in source.tables:
                    connection.execute(
                        "insert into ops.loads (source_system, table_name, strategy, status, finished_at, rows_read, "
                        "rows_inserted, rows_updated, rows_unchanged, rows_deduplicated, rows_quarantined) "
                        "values (%s, %s, 'merge', 'published', now(), 0, 0, 0, 0, 0, 0)",
                        [source.name, table.name],
                    )
        run_sql(database.url("transformer"), GOLD)
        yield database


@pytest.fixture
def production(warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestDatabase]:
    run_sql(warehouse.url("transformer"), GOLD)
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", warehouse.url("loader"))
    monkeypatch.setenv("MEDALLION_WAREHOUSE_TRANSFORMER_URL", warehouse.url("transformer"))
    monkeypatch.setattr("deployments.promotion.uncommitted", list)
    settings.cache_clear()
    yield warehouse
    settings.cache_clear()


@pytest.fixture
def junit(tmp_path: Path) -> Path:
    return results(tmp_path, str(commit()))


def results(folder: Path, sha: str, *, failures: int = 0, skipped: int = 1) -> Path:
    """A file as pytest --junitxml writes it."""
    file = folder / f"junit-{sha[:12]}.xml"
    outcomes = ["<failure/>"] * failures + ["<skipped/>"] * skipped + [""] * (9 - failures - skipped)
    cases = "".join(f'<testcase name="t{number}">{outcome}</testcase>' for number, outcome in enumerate(outcomes))
    file.write_text(
        f'<testsuites><testsuite name="pytest" tests="9" failures="{failures}" errors="0" skipped="{skipped}">'
        f"{cases}</testsuite></testsuites>"
    )
    return file


def look(staging: TestDatabase, evidence: Path | None, *, accept_changes: bool = False) -> Promotion:
    origin = DatabaseConnection("warehouse of staging", staging.url("transformer"))
    return asyncio.run(examine("production", "staging", origin, evidence, accept_changes=accept_changes))


def test_what_changed_while_a_person_read_it_is_not_what_they_approve(
    staging: TestDatabase, production: TestDatabase, junit: Path
) -> None:
    shown = look(staging, junit)
    assert look(staging, junit).changed_since(shown) == []
    # The results were written again, also passed.
    junit.write_text(junit.read_text().replace("t8", "t9"))
    assert look(staging, junit).changed_since(shown) == ["tests"]
    run_sql(staging.url("loader"), SPOILT["gate gold"])
    run_sql(production.url("transformer"), "alter table gold.dim_store add column city text")
    assert look(staging, junit).changed_since(shown) == ["tests", "gate gold", "gold"]


def refused(promotion: Promotion) -> list[GateResult]:
    return [gate for gate in promotion.gates if gate.outcome == "refused"]


def test_a_commit_that_the_environment_before_has_built_and_tested_passes(
    staging: TestDatabase, production: TestDatabase, junit: Path
) -> None:
    found = look(staging, junit)
    assert refused(found) == []
    assert {gate.gate: gate.outcome for gate in found.gates} == {
        "tests": "passed", "built": "passed", "gate raw": "passed", "gate gold": "passed", "freshness": "passed",
        "circuits": "passed", "reconcile": "told", "gold": "passed", "schema ops": "passed",
    }  # fmt: skip


SPOILT = {
    "built": "update ops.runs set status = 'failed'",
    "gate raw": "update ops.check_results set outcome = 'not_evaluated' where gate = 'raw' and check_name = 'c1'",
    "gate gold": "delete from ops.check_results where gate = 'gold'",
    "freshness": "update ops.loads set finished_at = now() - interval '90 days' where table_name = 'stores'",
    "circuits": "insert into ops.circuits (source_system, state) values ('marketing', 'open')",
    "reconcile": "insert into ops.reconciliations (source_system, table_name, method, result, buckets, drilled, "
    "missing, extra, different, quarantined, pending, repaired, seconds, keys) "
    "values ('shop', 'stores', 'content', 'different', 1, 1, 1, 0, 0, 0, 0, 0, 1, '{}')",
}
TOLD = {"freshness": "shop.stores (2,160 h", "circuits": "marketing", "reconcile": "shop.stores"}


@pytest.mark.parametrize("gate", SPOILT)
def test_each_gate_refuses_by_itself(staging: TestDatabase, production: TestDatabase, junit: Path, gate: str) -> None:
    run_sql(staging.url("loader"), SPOILT[gate])
    (found,) = refused(look(staging, junit))
    assert found.gate == gate
    assert TOLD.get(gate, "") in found.evidence


def test_other_models_than_these_prove_nothing(staging: TestDatabase, production: TestDatabase, junit: Path) -> None:
    run_sql(staging.url("loader"), """update ops.runs set details = details || '{"models": "0123456789abcdef"}'""")
    (found,) = refused(look(staging, junit))
    assert f"of models 0123456789abcdef, not {fingerprint()}" in found.evidence


@pytest.mark.parametrize(
    ("options", "sha", "says"),
    [
        ({"failures": 1}, None, "7 passed, 1 failed"),
        ({"skipped": 9}, None, "0 passed"),
        ({}, "0123456789abcdef", "of commit 0123456789ab"),
    ],
)
def test_results_that_fail_or_are_of_another_commit_are_no_evidence(
    staging: TestDatabase, production: TestDatabase, tmp_path: Path, options: dict[str, Any], sha: str | None, says: str
) -> None:
    (found,) = refused(look(staging, results(tmp_path, sha or str(commit()), **options)))
    assert (found.gate, says in found.evidence) == ("tests", True), found


def test_without_evidence_and_with_edits_that_were_not_committed_nothing_is_proven(
    staging: TestDatabase, production: TestDatabase, junit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [gate.gate for gate in refused(look(staging, None))] == ["tests"]
    monkeypatch.setattr("deployments.promotion.uncommitted", lambda: ["flows/cli/app.py"])
    assert "flows/cli/app.py" in refused(look(staging, junit))[0].evidence


def test_gold_may_not_lose_what_readers_have_unless_somebody_accepts_it(
    staging: TestDatabase, production: TestDatabase, junit: Path
) -> None:
    run_sql(production.url("transformer"), "alter table gold.dim_store add column manager text")
    run_sql(production.url("transformer"), "alter table gold.dim_store alter column store_id type integer")
    (found,) = refused(look(staging, junit))
    assert found.gate == "gold"
    assert "dim_store.manager goes" in found.evidence
    assert "dim_store.store_id becomes bigint" in found.evidence
    assert look(staging, junit, accept_changes=True).open


def test_an_upgrade_that_is_pending_is_told_and_an_environment_before_of_another_version_refuses(
    staging: TestDatabase, production: TestDatabase, junit: Path
) -> None:
    run_sql(production.url("loader"), "delete from ops.schema_version; insert into ops.schema_version values (6)")
    found = look(staging, junit)
    assert found.open
    assert found.pending_upgrade
    run_sql(staging.url("loader"), "delete from ops.schema_version; insert into ops.schema_version values (6)")
    assert [gate.gate for gate in refused(look(staging, junit))] == ["built"]


def test_a_promotion_is_shown_gate_by_gate_and_recorded_with_who_approved(
    staging: TestDatabase, production: TestDatabase, junit: Path
) -> None:
    sha = "0123456789abcdef0123456789abcdef01234567"  # as an image says it, which has no clone to ask
    variables = {
        "MEDALLION_ENVIRONMENT": "production",
        "MEDALLION_COMMIT": sha,
        "MEDALLION_PROMOTE_FROM_URL": staging.url("transformer"),
        "MEDALLION_WAREHOUSE_URL": production.url("loader"),
        "MEDALLION_WAREHOUSE_TRANSFORMER_URL": production.url("transformer"),
    }
    arguments = ("promote", "production", "--evidence", str(results(junit.parent, sha)))

    nobody = medallion(*arguments, variables=variables)
    approved = medallion(*arguments, "--approved-by", "Grace", variables=variables)

    assert (nobody.code, approved.code) == (1, 0), approved.text
    assert "it was not approved" in nobody.err
    assert "freshness" in approved.out
    assert "medallion transform --release" in approved.out
    recorded = rows(production, "select outcome, approved_by, commit_sha from ops.promotions order by promotion_id")
    assert recorded == [
        {"outcome": "refused", "approved_by": None, "commit_sha": sha},
        {"outcome": "promoted", "approved_by": "Grace", "commit_sha": sha},
    ]
    gates = rows(production, "select jsonb_array_elements(gates) ->> 'gate' as gate from ops.promotions")
    assert {gate["gate"] for gate in gates} >= {"tests", "built", "freshness", "gold"}
    assert rows(staging, "select count(*) as promotions from ops.promotions") == [{"promotions": 0}]
    password = staging.url("transformer").split(":")[2].split("@")[0]
    assert password not in approved.text


def test_another_environments_warehouse_is_not_taken_for_this_ones() -> None:
    ended = medallion("promote", "production", variables={"MEDALLION_ENVIRONMENT": "dev"})
    assert ended.code == 2
    assert "this process runs in dev" in ended.panel
    assert medallion("promote", "dev").code == 2


def test_a_clone_is_not_as_committed_when_a_file_differs_or_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dbt builds a model that git does not know yet; results of tests lie in the clone and are left out of it."""

    def git(*arguments: str) -> None:
        person = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        subprocess.run(["git", *person, *arguments], cwd=tmp_path, check=True)

    monkeypatch.setattr(settings(), "commit", None)
    (tmp_path / ".gitignore").write_text("junit-*.xml\n")
    (tmp_path / "model.sql").write_text("select 1")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    (tmp_path / "junit-abc.xml").write_text("")
    assert uncommitted(tmp_path) == []

    (tmp_path / "model.sql").write_text("select 2")
    (tmp_path / "another.sql").write_text("select 3")

    assert uncommitted(tmp_path) == ["model.sql", "another.sql"]
