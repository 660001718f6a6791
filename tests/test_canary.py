"""Distinctive secrets and personal data, looked for in everything a run leaves behind.

The rows themselves may stand where rows live: raw, landing, quarantine, snapshots, silver, gold. Nowhere else.
"""

import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest

from infra.local import roles
from tests.conftest import (
    HOME_VARIABLE,
    PREFECT_OF_THE_RUN,
    TestCluster,
    TestDatabase,
    fresh_shop,
    fresh_warehouse,
)
from tests.flows.front_door import Ended, medallion
from tests.flows.scripted_api import STAMP, ScriptedApi
from tests.kinds.conformance.forking import ROOT
from tests.kinds.loading import addresses, change, rows
from tests.observe.otlp import Collector
from tests.security.hostile_models import MARK, build_under_open_umask
from tests.watched import Watched

pytestmark = pytest.mark.xdist_group("canary")

KEY = "zqkey-4f81a7c0"
TRACE_KEY = "zqkey-90ab12cd"
DLT_KEY = "zqkey-d17e5b93"
DLT = importlib.util.find_spec("dlt") is not None
needs_dlt = pytest.mark.skipif(not DLT, reason="the extra `dlt` is not installed")
# Parts that survive every standardisation of names, addresses and phone numbers.
PERSONAL = ("zqquark", "555-0177", "5550177")

# The second cannot be kept in raw, and the key of the third is of another type.
GUESTS = [
    {"id": 1, "name": "Zqquark Two", "phone": "(513) 555-0177", "changed_at": STAMP},
    {"id": 2, "name": "zqquark\0three@example.com", "changed_at": STAMP},
    {"id": "zqquark.four@example.com", "changed_at": STAMP},
]


@dataclass
class Left:
    """Two runs of the pipeline over rows that provoke errors, and where they wrote. Of the second, dbt's part apart."""

    warehouse: TestDatabase
    first: Ended
    second: Ended
    snapshot: Ended
    hostile: Ended
    secrets: tuple[str, ...]
    watched: Watched
    shown: list[Ended]
    written: Path
    home: Path
    copied: Path
    temporary: Path
    collector: Collector


@pytest.fixture(scope="module")
def left(cluster: TestCluster, prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    guests = tmp_path_factory.mktemp("guests") / "records.json"
    guests.write_text(json.dumps(GUESTS), encoding="utf-8")
    module = "tests.flows.with_guests" if DLT else "flows.cli.app"
    with (
        fresh_warehouse(cluster) as warehouse,
        fresh_shop(cluster) as shop,
        ScriptedApi(KEY) as api,
        Collector() as collector,
    ):
        variables = dict(addresses(warehouse, shop)) | {
            "MEDALLION_SOURCE_MARKETING_URL": api.url,
            "MEDALLION_SOURCE_MARKETING_KEY": KEY,
            "MEDALLION_SOURCE_GUESTS_URL": "https://guests.example.com",
            "MEDALLION_SOURCE_GUESTS_KEY": DLT_KEY,
            "DLT_TEST_RECORDS": str(guests),
            "MEDALLION_SOURCE_CURRENCY_URL": api.url,
            "MEDALLION_SOURCE_CURRENCY_KEY": KEY,
            "MEDALLION_LOAD_ATTEMPTS": "1",
        }
        change(
            shop,
            "update households set full_name = 'Zqquark Zero', email = 'zqquark.zero@example.com', "
            "phone = '(513) 555-0177' where household_id = 5",
            "update households set full_name = 'Zqquark One', email = 'zqquark.one@@broken' where household_id = 6",
        )
        campaigns = api.records["campaigns"]
        api.records["campaigns"] = [*campaigns, {"id": 2, "name": "zqquark\0two@example.com", "updated_at": STAMP}]
        lineage = tmp_path_factory.mktemp("lineage")
        temporary = tmp_path_factory.mktemp("temporary")
        # Where another account passes through, as it does on many machines.
        home = Path(os.environ[HOME_VARIABLE]) / "canary"
        home.mkdir(mode=0o755)
        variables |= {
            "MEDALLION_OPENLINEAGE_FILE": str(lineage / "events.jsonl"),
            "MEDALLION_HOME": str(home),
            "MEDALLION_LOG_FORMAT": "json",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {TRACE_KEY}",
            "TMPDIR": str(temporary),
        }
        with Watched() as watched:
            first = medallion("run", variables=variables, module=module, anew=True)
        api.records["campaigns"] = campaigns
        _provoke_errors_that_quote_rows(warehouse, shop)
        second = medallion("run", "--ingest-only", variables=variables, module=module)
        snapshot = medallion("transform", "--select", "households_snapshot", variables=variables, module=module)
        # The next build writes over it.
        copied = tmp_path_factory.mktemp("copied")
        shutil.copytree(home / "dbt", copied, dirs_exist_ok=True)
        hostile = build_under_open_umask(tmp_path_factory.mktemp("hostile"), variables)
        passwords = [cluster.passwords[role] for role in (roles.ADMIN, *roles.ROLES)]
        shown = [
            medallion("plan", variables=variables, module=module),
            medallion("status", variables=variables, module=module),
            medallion("docs", "--out", str(lineage), variables=variables, module=module),
            medallion("erase", "--subject", "household", "--key", "5", variables=variables, module=module),
            medallion("purge", variables=variables, module=module),
            medallion("rotate", "loader", variables=variables, module=module),
        ]
        secrets = (KEY, DLT_KEY, TRACE_KEY, MARK, *passwords)
        yield Left(
            warehouse,
            first,
            second,
            snapshot,
            hostile,
            secrets,
            watched,
            shown,
            lineage,
            home,
            copied,
            temporary,
            collector,
        )


def _provoke_errors_that_quote_rows(warehouse: TestDatabase, shop: TestDatabase) -> None:
    """PostgreSQL quotes the whole row that breaks a constraint: one in the load, one in dbt's snapshot."""
    change(shop, "update households set phone = '513 555 0177', updated_at = now() where household_id in (5, 6)")
    with psycopg.connect(warehouse.url("admin"), autocommit=True) as connection:
        connection.execute("update raw_shop.households set age_band = 'zqquark' where household_id = 5")
        connection.execute("alter table raw_shop.households add check (phone not like '%555%0177%') not valid")
        connection.execute("alter table snapshots.households_snapshot add check (age_band <> 'zqquark') not valid")


def found(text: str | bytes, words: tuple[str, ...]) -> list[str]:
    """Those of the words that stand in the text, whatever their case."""
    if isinstance(text, bytes):
        return [word for word in words if re.search(re.escape(word).encode(), text, re.IGNORECASE)]
    return [word for word in words if re.search(re.escape(word), text, re.IGNORECASE)]


def test_the_runs_met_rows_and_errors_that_hold_personal_data(left: Left) -> None:
    """Otherwise finding nothing below would prove nothing."""
    assert left.first.code != 0
    assert "payload_readable: 1" in left.first.panel
    assert left.second.code == 3
    assert "23514" in left.second.panel
    assert left.snapshot.code == 3
    assert "households_snapshot" in left.snapshot.panel
    raw = rows(left.warehouse, "select h::text as row from raw_shop.households as h where household_id = 5")
    assert found(raw[0]["row"], PERSONAL)


@needs_dlt
def test_the_source_of_dlt_met_them_too(left: Left) -> None:
    """One of its resources was read, with a state that is kept; the other raised an error that quotes a record."""
    raw = rows(left.warehouse, "select payload::text as payload from raw_guests.arrivals")
    assert [bool(found(row["payload"], PERSONAL)) for row in raw] == [True]
    aside = rows(left.warehouse, "select rule from quarantine.rows where source_system = 'guests' order by 1")
    assert [row["rule"] for row in aside] == ["key_present", "payload_holds_nul"]
    assert [row["table_name"] for row in rows(left.warehouse, "select table_name from ops.dlt_states")] == ["arrivals"]
    for ended in (left.first, left.second):
        assert "LookupError" in ended.panel


def test_the_screen_shows_none_of_it(left: Left) -> None:
    for ended in (left.first, left.second, left.snapshot, left.hostile):
        assert found(ended.text, PERSONAL + left.secrets) == []


def test_the_tables_of_operations_hold_none_of_it(left: Left) -> None:
    tables = rows(left.warehouse, "select relname from pg_class where relnamespace = 'ops'::regnamespace "
                  "and relkind = 'r'")  # fmt: skip
    assert len(tables) >= 7
    for table in tables:
        for row in rows(left.warehouse, f"select t::text as row from ops.{table['relname']} as t"):
            assert found(row["row"], PERSONAL + left.secrets) == [], table


def test_the_prefect_server_was_told_none_of_it(left: Left, cluster: TestCluster) -> None:
    """Runs, logs, artifacts, parameters, events: all of it stands in its database."""
    database = TestDatabase(PREFECT_OF_THE_RUN, cluster, {"admin": roles.ADMIN})
    held = {
        table: rows(database, f"select t::text as row from {table} as t")
        for table in (
            each["name"]
            for each in rows(database, "select format('%I', relname) as name from pg_class "
                              "where relnamespace = 'public'::regnamespace and relkind = 'r'")
        )
    }  # fmt: skip
    assert {"flow_run", "task_run", "log", "artifact", "events"} <= {table for table in held if held[table]}
    for table, kept in held.items():
        assert [row for row in kept if found(row["row"], (*PERSONAL, KEY, DLT_KEY))] == [], table


@pytest.mark.parametrize("path", ["flow_runs", "task_runs", "logs", "artifacts", "events"])
def test_who_has_no_auth_string_is_told_nothing_of_the_runs(
    left: Left, prefect_server: str, prefect_auth: str, path: str
) -> None:
    user, _, password = prefect_auth.partition(":")
    with httpx.Client(base_url=prefect_server, trust_env=False, timeout=60) as client:
        for wrong in (httpx.Auth(), httpx.BasicAuth(user, "guessed")):
            refused = client.post(f"/{path}/filter", json={}, auth=wrong)
            assert (refused.status_code, refused.json()) == (401, {"exception_message": "Unauthorized"})
        # The control: there is something to be told.
        told = client.post(f"/{path}/filter", json={}, auth=(user, password)).raise_for_status().json()
        assert told["events"] if path == "events" else told


def test_results_and_dbts_own_files_hold_none_of_it(left: Left) -> None:
    folders = [left.home, left.copied, Path(os.environ["PREFECT_HOME"]), ROOT / "dbt_project/logs"]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    built = json.loads((left.copied / "run_results.json").read_text())["results"]
    assert "error" in {result["status"] for result in built}, "else no message could quote a row"
    for file in files:
        if file.name not in {"memo_store.toml"}:
            assert found(file.read_bytes(), PERSONAL + left.secrets) == [], file


def test_models_that_want_secrets_ran_and_got_none(left: Left) -> None:
    """Their tables hold what they found; compiled SQL, logs and Prefect's database are searched by the others here."""
    assert left.hostile.code == 3, left.hostile.panel  # those that reach into dbt's objects are refused
    assert "reach_config" in left.hostile.panel
    tables = rows(left.warehouse, "select relname from pg_class where relnamespace = 'staging'::regnamespace "
                  "and relname like any (array['env\\_%', 'shown\\_%', 'reach\\_%']) and relkind = 'r'")  # fmt: skip
    assert len(tables) > 10
    for table in tables:
        kept = rows(left.warehouse, f"select t::text as row from staging.{table['relname']} as t")
        assert [found(row["row"], left.secrets) for row in kept] == [[]], table
    compiled = left.home / "dbt/compiled/seen/models"
    assert (compiled / "env_medallion_source_marketing_key.sql").read_text() == "select $f$nothing$f$::text as found"


def test_files_of_dbt_are_their_owner_s_alone_whatever_the_umask(left: Left) -> None:
    paths = [left.home / "dbt", *(left.home / "dbt/compiled/seen").rglob("*")]
    assert len(paths) > 10
    assert [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another account")
def test_another_account_reads_no_file_of_dbt(left: Left) -> None:
    beside = left.home.with_name("canary.txt")
    beside.write_text("seen")
    beside.chmod(0o644)
    inside = [path for path in (left.home / "dbt").rglob("*") if path.is_file()]
    assert inside
    tries = 'for file; do head -c 1 "$file" > /dev/null 2>&1 && echo "$file"; done; true'
    done = subprocess.run(
        ["/bin/sh", "-c", tries, "sh", str(beside), *map(str, inside)],
        user="nobody", group="nogroup", extra_groups=[], cwd="/", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [str(beside)]


def test_no_process_was_started_with_a_secret_among_its_arguments(left: Left) -> None:
    assert any(b"flows.cli.app" in seen or b"with_guests" in seen for seen in left.watched.seen), "nothing was watched"
    assert [seen for seen in left.watched.seen if found(seen, PERSONAL + left.secrets)] == []


def test_no_process_was_handed_a_person_s_data_in_its_variables(left: Left) -> None:
    assert any(variable.startswith(b"MEDALLION_WAREHOUSE_URL=") for variable in left.watched.variables)
    assert [seen for seen in left.watched.variables if found(seen, PERSONAL)] == []


def test_no_temporary_file_is_left_that_holds_any_of_it(left: Left) -> None:
    for file in [path for path in left.temporary.rglob("*") if path.is_file()]:
        assert found(file.read_bytes(), PERSONAL + left.secrets) == [], file


def test_what_commands_show_holds_none_of_it(left: Left) -> None:
    """Plan, status, documents, the plan of an erasure that names the person's key, and a refused rotation."""
    assert [shown.code for shown in left.shown[2:]] == [0, 0, 0, 3], [shown.panel for shown in left.shown[2:]]
    for shown in left.shown:
        assert found(shown.text, PERSONAL + left.secrets) == []


def test_spans_hold_none_of_it(left: Left) -> None:
    names = {span.name for span in left.collector.spans}
    assert {"medallion run", "load shop.households", "publish", "dbt build", "GET marketing.campaigns"} <= names
    assert {span.attributes["error.type"] for span in left.collector.spans if span.failed} & {"CheckViolationError"}
    sent = {name.lower(): value for name, value in left.collector.headers[0].items()}
    assert sent["authorization"] == f"Bearer {TRACE_KEY}", "so that the key was there to be found"
    for body in left.collector.bodies:
        assert found(body, PERSONAL + left.secrets) == []


def test_every_line_that_the_runs_logged_is_a_json_object(left: Left) -> None:
    lines = [line for line in left.first.err.splitlines() if line.startswith("{")]
    assert {"shop", "marketing"} <= {json.loads(line).get("source") for line in lines}
    assert len({json.loads(line)["correlation_id"] for line in lines} - {"-"}) == 1


def test_documents_and_lineage_hold_none_of_it(left: Left) -> None:
    files = {file.name: file.read_bytes() for file in left.written.iterdir()}
    assert {"index.html", "lineage.html", "events.jsonl"} <= files.keys()
    for name, content in files.items():
        assert len(content) > 1000, name
        assert found(content, PERSONAL + left.secrets) == [], name


def test_every_result_that_was_kept_is_json(left: Left) -> None:
    """A pickle would run what it holds when it is read; dbt's nodes are tasks of a library's, and keep results too."""
    kept = [file for file in (Path(os.environ["PREFECT_HOME"]) / "storage").rglob("*") if file.is_file()]
    assert kept
    for file in kept:
        # What is no record with metadata is the result itself, which loading has shown to be JSON.
        document = json.loads(file.read_bytes())
        metadata = document.get("metadata") if isinstance(document, dict) else None
        if isinstance(metadata, dict) and "serializer" in metadata:
            assert metadata["serializer"]["type"] == "json", file
