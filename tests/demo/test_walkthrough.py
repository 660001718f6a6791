"""The demo's own processes: what they may see of the person's environment."""

import os

import psycopg
import pytest

from demo import findings, walkthrough
from tests.conftest import TestDatabase


def test_the_demo_never_reaches_a_warehouse_a_source_or_a_prefect_that_is_not_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever has production's addresses in the shell and types `make demo` must not load groceries into it."""
    for name in ("MEDALLION_WAREHOUSE_URL", "MEDALLION_SOURCE_SHOP_URL", "PREFECT_API_URL", "PREFECT_API_KEY"):
        monkeypatch.setenv(name, "postgresql://production")
    monkeypatch.setenv("MEDALLION_HOME", "/somewhere")
    environment = walkthrough._embedded_only()
    assert "postgresql://production" not in environment.values()
    assert environment["MEDALLION_HOME"] == "/somewhere"
    assert environment["PATH"] == os.environ["PATH"]


def test_the_demo_asks_before_it_deletes_what_was_loaded_of_other_sources(warehouse: TestDatabase) -> None:
    """What it made itself it deletes without a word: it is meant to be run again."""
    url, asked = warehouse.url("admin"), list[str]()

    def loaded(source: str) -> None:
        with psycopg.connect(url) as connection:
            connection.execute("insert into ops.runs (pipeline, scope) values ('ingest', %s)", [source])
            connection.execute(
                "insert into ops.loads (run_id, source_system, table_name, strategy)"
                " select max(run_id), %s, 'things', 'initial' from ops.runs",
                [source],
            )

    def no(what: str) -> bool:
        asked.append(what)
        return False

    loaded("shop")
    assert findings.other_sources(url) == []
    loaded("crm")
    with pytest.raises(walkthrough.DemoFailed, match="loads of crm"):
        walkthrough._begin_from_scratch(url, no)
    assert len(asked) == 1
    assert findings.other_sources(url) == ["crm"]
    walkthrough._begin_from_scratch(url, lambda _: True)
    assert findings.other_sources(url) == []
