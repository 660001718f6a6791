"""The command line through a process of its own: what it says, and the code it ends with."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.conftest import TestDatabase
from tests.flows.front_door import Ended, medallion, told_by_medallion
from tests.flows.scripted_api import ScriptedApi
from tests.kinds.conformance.forking import ROOT
from tests.kinds.loading import addresses, change, load, loads, raw_rows, rows

COMMANDS = {
    "demo": "Run the whole platform once",
    "up": "Start the embedded stack",
    "down": "Stop what `up` started",
    "plan": "Show what a run would load",
    "cursor": "Stored cursors",
    "run": "Load the sources and build gold",
    "transform": "Build what has changed in silver and gold",
    "dev": "Build models in private schemas",
    "model": "Create a model",
    "dbt": "Run dbt with the connection",
    "diff": "Build the models that differ from the last full build",
    "docs": "Write the models' documentation",
    "deploy": "Show what would change at the configured Prefect server",
    "promote": "Check the promotion gates",
    "rollback": "Restore an earlier version",
    "migrate": "Upgrade schema ops to the version",
    "reconcile": "Compare raw with its sources by content",
    "backfill": "Reload a range of days",
    "follow": "Load a source's changes as they happen",
    "receipt": "Show what a table of gold rests on",
    "reload": "Have the next load of a table read all",
    "recover": "Bring tables back to what their sources hold",
    "backup": "Back up the cluster",
    "restore": "Recover to the end of the WAL or to a moment",
    "drill": "Recover the newest backup into a scratch folder",
    "preview": "Show an endpoint's first records",
    "add": "Draft a declaration",
    "status": "Show services, last runs, cursors",
    "alerts": "Alerts: what is wrong",
    "freshness": "Show how fresh tables and models are",
    "quarantine": "Quarantined rows",
    "metrics": "Print metrics of loads",
    "volume": "Show the rows that tables received per day",
    "anomalies": "Unusual days of tables and columns",
    "quality": "Show a table's quality by day",
    "cost": "Show what tables, models and runs cost",
    "decide": "Decisions: what runs ask people",
    "runs": "Runs: everything that happened under one correlation id",
    "dashboard": "Serve pages of operations and gold",
    "watch": "Check the Prefect server, the warehouse, flow runs and backups, and send alerts, until stopped.",
    "worker": "Run a Prefect worker",
    "gameday": "Cause faults at random in a private copy",
    "tune": "",
    "capture": "",
    "env": "Print the environment variables",
    "predict": "Train the churn model on gold",
    "render": "Render files from the code",
    "url": "Print a role's connection URL",
    "rotate": "Rotate a warehouse role's account",
    "erase": "Delete a subject's rows",
    "purge": "Show data past its retention period",
    "register": "Register blocks, work pools and limits",
}


@pytest.fixture(scope="module")
def api() -> Iterator[ScriptedApi]:
    with ScriptedApi() as running:
        yield running


@pytest.fixture
def variables(warehouse: TestDatabase, shop: TestDatabase, api: ScriptedApi) -> dict[str, str]:
    return dict(addresses(warehouse, shop)) | {
        "MEDALLION_SOURCE_MARKETING_URL": api.url,
        "MEDALLION_SOURCE_MARKETING_KEY": api.key,
        "MEDALLION_SOURCE_CURRENCY_URL": api.url,
        "MEDALLION_SOURCE_CURRENCY_KEY": api.key,
        "MEDALLION_LOAD_ATTEMPTS": "1",
    }


def assert_no_secret(ended: Ended, variables: Mapping[str, str]) -> None:
    """No password, no key, and none of the addresses that hold them."""
    for name, value in variables.items():
        if name.endswith("KEY"):
            assert value not in ended.text
        elif found := re.search(r"//[^:]+:([^@]+)@", value):
            assert found[1] not in ended.text
    assert "Traceback" not in ended.text


# -- help


def test_help_lists_every_command_with_what_it_does() -> None:
    ended = medallion("--help", variables={"COLUMNS": "150"})

    assert ended.code == 0
    listed = re.findall(r"^│ (\w+) +(\S.*?) *│$", ended.out, flags=re.MULTILINE)
    assert dict(listed).keys() == COMMANDS.keys()
    for name, says in listed:
        assert says.startswith(COMMANDS[name])


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str) -> None:
    ended = told_by_medallion(command, "--help")

    assert ended.code == 0
    said = " ".join(ended.out.split())
    assert f"{command} [OPTIONS]" in said
    assert COMMANDS[command] in said


@pytest.mark.parametrize("arguments", [["no-such-command"], ["run", "--no-such-option"], ["url", "--role", "nobody"]])
def test_a_mistyped_command_line_ends_with_2(arguments: list[str]) -> None:
    assert told_by_medallion(*arguments).code == 2


# -- declarations


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("shopp", "use one of shop, marketing, currency"),
        ("shop.basket", "use one of households, household_events, stores"),
    ],
)
def test_an_unknown_source_or_table_ends_with_2_and_lists_those_there_are(command: str, name: str, fix: str) -> None:
    ended = medallion(command, name)

    assert ended.code == 2
    assert "DeclarationError" in ended.panel
    assert fix in ended.panel


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        ('key="basket_id",', "", "a merge needs a key"),
        ("deletes=True", "delete=True", "flows/sources/shop.py, line"),
        *(
            pytest.param(*variant, marks=pytest.mark.long)
            for variant in (
                ('Table("stores"', 'Table("products"', "table products is declared twice"),
                ('lag="10 min"', 'lag="10 parsecs"', "10 parsecs"),
                ("shop = Database(", "shop = Database(,", "SyntaxError: invalid syntax"),
                ("from flows.declare import", "from flows.spec import", "No module named 'flows.spec'"),
            )
        ),
    ],
)
def test_a_bad_declaration_ends_with_2_and_says_what_to_write(tmp_path: Path, good: str, bad: str, says: str) -> None:
    """It is refused while the sources are imported, before any command begins."""
    shutil.copytree(ROOT / "flows", tmp_path / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    declared = tmp_path / "flows/sources/shop.py"
    declared.write_text(declared.read_text().replace(good, bad))
    for arguments in ([sys.executable, "-m", "flows.cli", "plan"], [sys.executable, "-m", "flows.cli", "render"]):
        done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert "DeclarationError" in done.stderr
        assert says in Ended(2, "", done.stderr).panel
        assert "fix" in done.stderr


def test_a_setting_that_cannot_be_read_ends_with_2_and_names_its_variable() -> None:
    ended = medallion("status", variables={"MEDALLION_LOCK_WAIT_SECONDS": "a minute"})

    assert ended.code == 2
    assert "MEDALLION_LOCK_WAIT_SECONDS" in ended.panel
    assert "Traceback" not in ended.text


# -- failures


def test_a_wrong_password_of_the_source_ends_with_3_and_is_not_quoted(variables: dict[str, str]) -> None:
    variables["MEDALLION_SOURCE_SHOP_URL"] = re.sub(
        r":[^:@]+@", ":canary-wrong-pw@", variables["MEDALLION_SOURCE_SHOP_URL"]
    )

    ended = medallion("plan", "shop", variables=variables)

    assert ended.code == 3
    assert "28P01" in ended.panel
    assert "check user, password and database in the source's URL" in ended.panel
    assert_no_secret(ended, variables)


def test_a_wrong_password_of_the_warehouse_ends_with_3_and_is_not_quoted(variables: dict[str, str]) -> None:
    variables["MEDALLION_WAREHOUSE_URL"] = re.sub(
        r":[^:@]+@", ":canary-wrong-pw@", variables["MEDALLION_WAREHOUSE_URL"]
    )

    for command in ("plan", "status"):
        ended = medallion(command, variables=variables)

        assert ended.code == 3
        assert "check user, password and database in the warehouse's URL" in ended.panel
        assert_no_secret(ended, variables)


def test_a_warehouse_that_is_down_ends_with_3_and_says_where_it_was_looked_for(variables: dict[str, str]) -> None:
    variables["MEDALLION_WAREHOUSE_URL"] = "postgresql://loader:canary-pw@127.0.0.1:9/warehouse"

    ended = medallion("status", variables=variables)

    assert ended.code == 3
    assert "loader@127.0.0.1:9/warehouse" in ended.panel
    assert "check that the warehouse is up and reachable" in ended.panel
    assert_no_secret(ended, variables)


def test_an_address_that_cannot_be_read_ends_with_3_and_shows_how_to_write_one(variables: dict[str, str]) -> None:
    variables["MEDALLION_WAREHOUSE_URL"] = "postgresql://loader:canary-pw@127.0.0.1:many/warehouse"

    ended = medallion("status", variables=variables)

    assert ended.code == 3
    assert "write it as postgresql://user:password@host:5432/database" in ended.panel
    assert_no_secret(ended, variables)


def test_without_any_stack_or_setting_the_next_move_is_medallion_up() -> None:
    ended = medallion("status")

    assert ended.code == 3
    assert "run `medallion up`" in ended.panel


def test_a_key_that_the_api_refuses_ends_with_3_and_is_not_quoted(
    prefect_server: str, variables: dict[str, str]
) -> None:
    variables["MEDALLION_SOURCE_MARKETING_KEY"] = "canary-wrong-key"

    ended = medallion("run", "marketing.campaigns", "--ingest-only", variables=variables)

    assert ended.code == 3
    assert "401 from GET /v1/campaigns" in ended.panel
    assert "MEDALLION_SOURCE_MARKETING_KEY" in ended.panel
    assert_no_secret(ended, variables)


def test_an_api_out_of_reach_ends_with_3_and_is_not_taken_for_the_prefect_server(
    prefect_server: str, variables: dict[str, str]
) -> None:
    variables["MEDALLION_SOURCE_MARKETING_URL"] = "http://127.0.0.1:9"

    ended = medallion("run", "marketing.campaigns", "--ingest-only", variables=variables)

    assert ended.code == 3
    assert "no connection for GET /v1/campaigns" in ended.panel
    assert "MEDALLION_SOURCE_MARKETING_URL" in ended.panel
    assert "retryable yes" in ended.panel
    assert_no_secret(ended, variables)


def test_a_prefect_server_that_does_not_answer_ends_with_3_and_says_so(variables: dict[str, str]) -> None:
    variables["PREFECT_API_URL"] = "http://127.0.0.1:9/api"
    variables["PREFECT_CLIENT_MAX_RETRIES"] = "0"

    ended = medallion("run", "shop.stores", "--ingest-only", variables=variables)

    assert ended.code == 3
    assert "the Prefect server does not respond" in ended.panel
    assert "medallion up" in ended.panel


def test_a_full_quarantine_ends_with_1_and_shows_what_the_other_tables_did(
    prefect_server: str, variables: dict[str, str], warehouse: TestDatabase, shop: TestDatabase
) -> None:
    change(shop, "update basket_items set quantity = -1 where basket_item_id < 100")

    ended = medallion("run", "shop", "--ingest-only", variables=variables)

    assert ended.code == 1
    assert "27 of 450 rows break a rule (quantity_not_negative: 27), 5 are tolerated" in ended.panel
    assert '"landing"."shop__basket_items"' in ended.panel
    assert re.search(r"✓ shop.baskets", ended.out)
    assert re.search(r"shop.basket_items +│.*│ refused", ended.out)
    staged = rows(warehouse, "select count(*) as rows from landing.shop__basket_items where quantity < 0")
    assert staged == [{"rows": 27}]  # where the message says to look
    assert_no_secret(ended, variables)


def test_a_failure_and_a_refusal_in_one_run_end_with_the_failures_code_and_name_both(
    prefect_server: str, variables: dict[str, str], shop: TestDatabase
) -> None:
    change(shop, "update basket_items set quantity = -1 where basket_item_id < 100")
    variables["MEDALLION_SOURCE_MARKETING_KEY"] = "canary-wrong-key"

    ended = medallion("run", "shop.basket_items", "marketing.campaigns", "--ingest-only", variables=variables)

    assert ended.code == 3
    assert "27 of 450 rows break a rule" in ended.panel
    assert "401 from GET /v1/campaigns" in ended.panel


# -- plan, run, status, render


async def test_plan_touches_nothing_and_shows_what_waits(
    variables: dict[str, str], warehouse: TestDatabase, shop: TestDatabase
) -> None:
    await load(warehouse, shop, "baskets")
    change(shop, "update baskets set week = 52, updated_at = now() where basket_id <= 31000003")
    before = everything(warehouse), written(shop)

    ended = medallion("plan", variables=variables)

    assert ended.code == 0, ended.text
    assert re.search(r"shop.baskets +│ pending +│ +3 │ merge +│ 20\d\d-", ended.out)
    assert re.search(r"shop.basket_items +│ pending +│ +450 │ initial +│ the beginning", ended.out)
    assert re.search(r"marketing.campaign_targets +│ pending +│ +3 │ initial", ended.out)
    assert (everything(warehouse), written(shop)) == before


async def test_plan_after_a_run_shows_that_nothing_waits(
    variables: dict[str, str], warehouse: TestDatabase, shop: TestDatabase
) -> None:
    await load(warehouse, shop, "baskets")

    ended = medallion("plan", "shop.baskets", variables=variables)

    assert re.search(r"shop.baskets +│ up to date", ended.out)


def test_a_run_with_a_row_limit_says_that_it_is_no_full_load(
    prefect_server: str, variables: dict[str, str], warehouse: TestDatabase
) -> None:
    planned = medallion("plan", "shop.baskets", "--limit", "20", variables=variables)
    ended = medallion("run", "shop.baskets", "marketing.coupons", "--ingest-only", "--limit", "20", variables=variables)

    assert (planned.code, ended.code) == (0, 0), ended.text
    assert re.search(r"shop.baskets +│ pending +│ +20 │ limited ", planned.out)
    assert len(re.findall(r"limited .*│ limited ", ended.out)) == 2
    assert len(raw_rows(warehouse, "baskets")) == 20
    status = medallion("status", variables=variables)
    assert re.search(r"shop.baskets +│ published +│ +limited ", status.out)
    refused = medallion("run", "shop", "--limit", "20", variables={**variables, "MEDALLION_ENVIRONMENT": "production"})
    assert refused.code != 0
    assert "this environment is production" in refused.panel


def test_running_twice_says_that_nothing_changed(
    prefect_server: str, variables: dict[str, str], warehouse: TestDatabase
) -> None:
    first = medallion("run", "shop.stores", "marketing", "--ingest-only", variables=variables)
    before = raw_rows(warehouse, "stores"), raw_rows(warehouse, "coupons", "raw_marketing")

    second = medallion("run", "shop.stores", "marketing", "--ingest-only", variables=variables)

    assert (first.code, second.code) == (0, 0), first.text + second.text
    assert "There was nothing new to load" not in first.out
    assert "There was nothing new to load." in second.out
    looked_for = re.search(r'grep -q "(.*?)" /tmp/medallion-again', (ROOT / ".ci/run").read_text(encoding="utf-8"))
    assert looked_for is not None
    assert looked_for[1] in second.out, "CI asks for another sentence"
    assert (raw_rows(warehouse, "stores"), raw_rows(warehouse, "coupons", "raw_marketing")) == before
    assert {entry["status"] for entry in loads(warehouse)} == {"published"}


async def test_status_shows_what_stands_in_quarantine_and_what_changed_shape(
    variables: dict[str, str], warehouse: TestDatabase, shop: TestDatabase
) -> None:
    change(shop, "update basket_items set quantity = -1 where basket_item_id in (11, 12)")
    await load(warehouse, shop, "basket_items")
    await load(warehouse, shop, "households")
    change(shop, "alter table households add column loyalty_tier text", "update households set loyalty_tier = 'gold'")
    await load(warehouse, shop, "households")

    ended = medallion("status", variables=variables)

    assert ended.code == 0, ended.text
    assert re.search(r"shop.basket_items +│ quantity_not_negative +│ +2 │", ended.out)
    assert re.search(r"shop.basket_items +│ published +│ +\d+ s │ 20\d\d.*│ +448 │ match +│ +2 │", ended.out)
    assert re.search(r"shop.households +│ loyalty_tier +│ added +│ text", ended.out)
    assert_no_secret(ended, variables)


def test_render_check_is_content_with_this_repository() -> None:
    ended = medallion("render", "--check")

    assert ended.code == 0, ended.text
    assert "all rendered files are up to date" in ended.out


def test_render_check_ends_with_2_and_names_what_differs(tmp_path: Path) -> None:
    for part in ("flows", "soda", "dbt_project/models", "docs"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.yaml", tmp_path)
    contract = tmp_path / "soda/raw/shop/stores.yml"
    contract.write_text(contract.read_text() + "# by hand\n")

    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "render", "--check"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 2
    assert "differs: soda/raw/shop/stores.yml" in done.stdout
    assert "run `medallion render`" in done.stderr
    assert contract.read_text().endswith("# by hand\n")


def everything(warehouse: TestDatabase) -> object:
    """Every table there is, with its rows and what was ever written to it."""
    tables = rows(
        warehouse,
        "select schemaname as s, relname as t, n_tup_ins, n_tup_upd, n_tup_del from pg_stat_user_tables order by 1, 2",
    )
    counted = [rows(warehouse, f'select count(*) as rows from "{table["s"]}"."{table["t"]}"') for table in tables]
    return tables, counted, rows(warehouse, "select oid from pg_class where relkind in ('r', 'v', 'S') order by 1")


def written(shop: TestDatabase) -> object:
    return rows(shop, "select relname, n_tup_ins, n_tup_upd, n_tup_del from pg_stat_user_tables order by 1")


# -- looking at an API


def test_an_endpoint_is_previewed_and_a_list_drafted_without_a_warehouse(api: ScriptedApi) -> None:
    variables = {
        "MEDALLION_SOURCE_MARKETING_URL": api.url,
        "MEDALLION_SOURCE_MARKETING_KEY": api.key,
        "MEDALLION_SOURCE_ADS_KEY": api.key,
        "MEDALLION_WAREHOUSE_URL": "postgresql://nobody@127.0.0.1:1/none",
    }
    seen = medallion("preview", "marketing.coupons", "-n", "1", variables=variables)
    drafted = medallion("add", "api", f"{api.url}/v1/coupons", "--name", "ads", "--auth", "header", variables=variables)

    assert (seen.code, drafted.code) == (0, 0)
    assert "1-10000085207" in seen.out
    assert 'records="data"' not in drafted.out
    assert 'auth=ApiKeyHeader(header="X-API-Key")' in drafted.out
    assert api.key not in seen.text + drafted.text
