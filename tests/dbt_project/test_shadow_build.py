"""Builds beside the shared one, on a real warehouse and copies of the project that somebody edited."""

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from io import StringIO
from pathlib import Path

import psycopg
import pytest
from openlineage.client.serde import Serde
from rich.console import Console

from flows.cli import model_tables
from flows.models import dev
from flows.models import diff as builds
from flows.models.build_advice import RemovedColumn
from flows.models.build_events import build_events
from flows.models.conventions import check_conventions
from flows.models.diff_report import ModelChange, Review, review_markdown
from flows.models.docs import write_docs
from flows.models.lineage import Lineage
from flows.models.manifest import Manifest
from flows.models.new import new_model
from flows.models.plain_dbt import plain_environment, refuse_shared_build, run_plain, write_env_file
from flows.observe.openlineage import LineageRun
from flows.quality.contracts import validate_contract
from flows.render.gold_contracts import write_gold_contract
from flows.state import dbt_manifests
from flows.values.errors import ConfigurationError, DeclarationError
from flows.values.settings import settings
from tests.conftest import ROOT, TestCluster, fresh_warehouse
from tests.dbt_project.built_warehouse import PROJECT, Warehouse
from tests.dbt_project.quick_dbt import hurrying
from tests.flows.front_door import medallion
from tests.observe.openlineage_schema import mistakes

# One worker: the shared build is made once for each worker that asks.
pytestmark = pytest.mark.xdist_group("beside")

Edit = Callable[[Path], None]


@pytest.fixture(scope="module")
def shared(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A warehouse after one whole build, whose manifest is kept as the transform keeps it; and an analyst, Ada."""
    with hurrying(), fresh_warehouse(cluster) as database, pytest.MonkeyPatch.context() as patch:
        warehouse = Warehouse(database, tmp_path_factory.mktemp("dbt"))
        warehouse.load_day_one()
        build = warehouse.build()
        assert build.exit_code == 0, build.output
        patch.setenv("MEDALLION_WAREHOUSE_URL", database.url("loader"))
        patch.setenv("MEDALLION_WAREHOUSE_TRANSFORMER_URL", database.url("transformer"))
        patch.setenv("MEDALLION_WAREHOUSE_REVIEWER_URL", database.url("reviewer"))
        patch.setenv("MEDALLION_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("MEDALLION_DEV_NAME", "Ada.Lovelace")
        settings.cache_clear()
        keep(warehouse)
        yield warehouse
    settings.cache_clear()


def keep(warehouse: Warehouse) -> None:
    async def kept() -> None:
        import asyncpg

        connection = await asyncpg.connect(warehouse.database.url("loader"))
        run_id = await connection.fetchval("insert into ops.runs (pipeline) values ('transform') returning run_id")
        await dbt_manifests.keep_manifest(connection, run_id, (warehouse.target / "manifest.json").read_bytes())
        await connection.close()

    asyncio.run(kept())


@pytest.fixture
def edited(shared: Warehouse, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Copies of the project with edits: `edited(("models/gold/x.sql", "old", "new"), …)`. Private schemas go after."""

    def edit(*edits: tuple[str, str, str]) -> Path:
        project = tmp_path / "dbt_project"
        shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
        for name, old, new in edits:
            file = project / name
            text = file.read_text() if old else ""
            assert old in text, f"{name} has changed: adapt the edit"
            file.write_text(text.replace(old, new, 1))
        return project

    yield edit
    asyncio.run(dev.drop())
    assert private(shared) == set()


def private(warehouse: Warehouse) -> set[str]:
    """Relations outside the shared schemas, as `dev_ada_lovelace__gold.agg_daily_sales`, without receipts."""
    rows = warehouse.rows("""
        select n.nspname || '.' || c.relname as name
        from pg_class as c inner join pg_namespace as n on c.relnamespace = n.oid
        where c.relkind in ('r', 'v', 'p') and n.nspname ~ '^(dev|pr)_' and n.nspname !~ '__test_failures$'
            and c.relname !~ '^receipt'
    """)
    return {row["name"] for row in rows}


DEARER = ("models/silver/basket_line.sql", "coalesce(coupon_discount, 0)::numeric(10, 2)",
          "(coalesce(coupon_discount, 0) + 1)::numeric(10, 2)")  # fmt: skip


def test_an_edit_is_built_with_its_tests_in_schemas_of_the_analyst_and_all_else_is_shared(
    shared: Warehouse, edited: Callable[..., Path]
) -> None:
    """And personal values are withheld by their origin: nobody tags the column of a model written a minute ago."""
    project = edited(
        ("models/silver/household.sql", "{{ null_default('ranked.kids_count') }}",
         "coalesce(ranked.kids_count, 'Not told')"),
        ("models/silver/contact.sql", "", "select household_id, lower(email) as reach_at, age_band\n"
         "from {{ ref('household') }}\n"),
        ("models/silver/contact.yml", "", "models:\n  - name: contact\n    description: One row per household.\n"),
    )  # fmt: skip
    before = shared.rows("select * from silver.household order by 1")

    built = asyncio.run(dev.build(project=project))

    assert built.invocation.ok, built.nodes
    kinds = {(node.kind, node.name.partition(".")[0]) for node in built.nodes}
    assert {("model", "household"), ("unit_test", "household"), ("test", "household_keys_hold")} <= kinds
    assert private(shared) == {"dev_ada_lovelace__silver.contact", "dev_ada_lovelace__silver.household"}
    assert shared.rows("select * from silver.household order by 1") == before
    counts = {row["kids_count"] for row in shared.rows("select kids_count from dev_ada_lovelace__silver.household")}
    assert "Not told" in counts
    shown = {preview.name: preview for preview in built.previews}
    contact = shown["dev_ada_lovelace__silver.contact"]
    assert contact.withheld == {"reach_at"}
    assert len(contact.rows) == 5
    assert "@" not in str(built.previews)
    assert "@" in str(shared.rows("select reach_at from dev_ada_lovelace__silver.contact limit 5"))


@pytest.mark.long
def test_who_asks_for_personal_values_is_shown_them(shared: Warehouse, edited: Callable[..., Path]) -> None:
    (preview,) = asyncio.run(dev.build(["household"], project=edited(DEARER), personal=True)).previews
    assert "@" in str(preview.rows)


@pytest.mark.long
def test_what_lies_between_an_edit_and_the_model_asked_for_is_built_too(
    shared: Warehouse, edited: Callable[..., Path]
) -> None:
    """Else the model would be computed from a shared table that knows nothing of the edit."""
    built = asyncio.run(dev.build(["agg_daily_sales"], project=edited(DEARER), rows=0))
    models = [node.name for node in built.nodes if node.kind == "model"]
    assert (models[0], models[-1]) == ("basket_line", "agg_daily_sales")
    assert {"fct_basket_lines", "fct_baskets"} <= set(models)
    edited_total, plain, lines = shared.rows("""
        select
            (select sum(coupon_discount) from dev_ada_lovelace__gold.agg_daily_sales),
            (select sum(coupon_discount) from gold.agg_daily_sales) as plain,
            (select count(*) from gold.fct_basket_lines) as lines
    """)[0].values()
    assert edited_total == plain + lines


def test_a_model_that_cannot_be_built_says_why_without_the_rows_it_met(
    shared: Warehouse, edited: Callable[..., Path]
) -> None:
    """Its unit tests come first: what they refuse is not built."""
    project = edited(("models/silver/household.sql", "{{ e164('ranked.phone') }} as phone",
                      "ranked.full_name::integer as phone"))  # fmt: skip
    built = asyncio.run(dev.build(["household"], project=project))
    broken = [node for node in built.nodes if node.status == "error"]
    assert broken
    # A unit test's own numbers are out of range, other values are no integer: either way the value is not told.
    assert [node.message for node in broken if not re.search(r"\*\*\*|\n +22\w{3} [A-Z]\w+$", node.message)] == []
    assert {node.status for node in built.nodes if node.kind == "model"} == {"skipped"}
    assert private(shared) == set()


def test_a_build_names_who_reads_a_removed_column_and_gives_a_query_for_duplicate_keys(
    shared: Warehouse, edited: Callable[..., Path]
) -> None:
    """A key that repeats by its test, and one whose unique index cannot be built: there is no table to look into."""
    stores = "select store_id from {{ ref('store') }}\n"
    twice = f"{stores}union all\n{stores}"
    tested = (
        "models:\n  - name: twice\n    description: One row per store.\n    data_tests:\n      - keys_hold:\n"
        "          name: twice_keys_hold\n          arguments: {columns: [store_id]}\n"
    )
    project = edited(
        ("models/silver/campaign.sql", "        ranked.ends_on - ranked.starts_on + 1 as days,\n", ""),
        ("models/silver/twice.sql", "", twice),
        ("models/silver/twice.yml", "", tested),
        ("models/silver/thrice.sql", "",
         "{{ config(indexes=[{'columns': ['store_id'], 'unique': true}]) }}\n" + twice),
    )  # fmt: skip

    built = asyncio.run(dev.build(["campaign", "twice", "thrice"], project=project))

    assert built.removed == (RemovedColumn("campaign", "days", ("dim_campaign.days",)),)
    assert {one.model for one in built.duplicates} == {"twice", "thrice"}
    for one in built.duplicates:
        found = shared.rows(one.query.read_text())
        assert found, one.model
        assert {row["row_count"] for row in found} == {2}
    # Previews are of what was asked for and built, and hooks are no tests.
    assert {preview.name.rpartition(".")[2] for preview in built.previews} == {"campaign", "twice"}
    assert "operation" not in {node.kind for node in built.nodes}
    screen = Console(record=True, width=200, file=StringIO())
    for part in model_tables.build_parts(built, 200):
        screen.print(part)
    text = screen.export_text()
    assert "campaign no longer has days, which dim_campaign.days is computed from" in text
    assert text.count("23505 ") == 1
    tests = sum(node.kind in {"test", "unit_test"} for node in built.nodes)
    last = text.strip().splitlines()
    assert last[-1].startswith(f"2 of {len(built.nodes)} failed; 3 built, {tests} tests")
    assert any(line.startswith("✗ thrice: ") for line in last[-6:])


def test_asking_for_a_model_that_fails_shows_no_rows_of_others(shared: Warehouse, edited: Callable[..., Path]) -> None:
    project = edited(
        ("models/silver/thrice.sql", "", "select 1 / (store_id - store_id) as id from {{ ref('store') }}\n")
    )
    assert asyncio.run(dev.build(["thrice"], project=project)).previews == ()


def test_a_project_that_does_not_parse_is_told_in_dbts_words(edited: Callable[..., Path]) -> None:
    built = asyncio.run(dev.build(project=edited(("models/silver/household.sql", "ref('age_bands')", "ref('bands')"))))
    assert "bands" in built.invocation.problem
    assert not built.invocation.ok


def test_a_mistyped_name_is_not_taken_for_nothing_to_do(shared: Warehouse, edited: Callable[..., Path]) -> None:
    with pytest.raises(DeclarationError, match="did you mean household"):
        asyncio.run(dev.build(["houshold"], project=edited()))


def test_dropping_leaves_the_schemas_of_others_alone(shared: Warehouse) -> None:
    others = {"dev_ada__gold", "dev_ada_lovelace_b__gold", "pr_12__gold"}
    with psycopg.connect(shared.database.url("transformer")) as connection:
        for schema in {*others, "dev_ada_lovelace__gold"}:
            connection.execute(f"create schema {schema}".encode())
    with psycopg.connect(shared.database.url("reviewer")) as connection:
        connection.execute("select reviews.open_schema('pr_1__gold')")
    assert asyncio.run(dev.drop()) == ["dev_ada_lovelace__gold"]
    assert asyncio.run(builds.clean("1")) == ["pr_1__gold"]
    left = {row["nspname"] for row in shared.rows("select nspname from pg_namespace where nspname ~ '^(dev|pr)_'")}
    assert left == others
    with psycopg.connect(shared.database.url("transformer")) as connection:
        for schema in left:
            connection.execute(f"drop schema {schema}".encode())


# -- reviews


def change_of(review: Review, name: str) -> ModelChange:
    (found,) = [change for change in review.changes if change.name == name]
    return found


def test_a_review_tells_rows_columns_totals_and_keys_and_leaves_nothing_behind(
    shared: Warehouse, edited: Callable[..., Path]
) -> None:
    project = edited(
        # A day fewer, on which nothing was sold, one more basket on another day, and a column of another type.
        ("models/gold/agg_daily_sales.sql", "from compared", "from compared where sold_on is distinct from "
         "(select min(empty.sold_on) from compared as empty where empty.baskets = 0 and "
         "empty.sold_on > date '2017-03-01')"),
        ("models/gold/agg_daily_sales.sql", "    basket_lines,\n    baskets,",
         "    basket_lines::bigint as basket_lines,\n    baskets + (sold_on = '2017-03-01')::integer as baskets,"),
        ("models/gold/agg_daily_sales.yml", "      - name: basket_lines\n        data_type: integer",
         "      - name: basket_lines\n        data_type: bigint"),
        ("models/gold/agg_store_count.sql", "", "select count(*)::integer as stores from {{ ref('dim_store') }}\n"),
        ("models/gold/agg_store_count.yml", "",
         "models:\n  - name: agg_store_count\n    description: One row per chain.\n    columns:\n"
         "      - {name: stores, data_type: integer, description: Stores., constraints: []}\n"),
    )  # fmt: skip
    for file in (project / "models/gold").glob("agg_product_affinity.*"):
        file.unlink()
    exposures = project / "models/exposures.yml"
    exposures.write_text(exposures.read_text().replace("      - ref('agg_product_affinity')\n", ""))

    review = asyncio.run(builds.diff("123", project=project))

    assert review.ok, [n.message for n in review.failed if n.status == "error"]
    daily = change_of(review, "agg_daily_sales")
    assert (daily.layer, daily.change) == ("gold", "modified")
    found = daily.difference
    assert found is not None
    assert found.rows_before is not None
    assert found.rows_after == found.rows_before - 1
    assert found.columns_retyped == (("basket_lines", "integer", "bigint"),)
    totals = {total.column: total for total in found.totals}
    assert totals["sales_to_date"].before != totals["sales_to_date"].after
    assert found.keys is not None
    assert (found.keys.columns, found.keys.added, found.keys.removed, found.keys.changed) == (("sold_on",), 0, 1, 1)
    assert dict(found.keys.changed_columns) == {"baskets": 1}
    assert change_of(review, "agg_store_count").change == "new"
    removed = change_of(review, "agg_product_affinity")
    assert (removed.change, removed.difference and removed.difference.rows_after) == ("removed", None)
    assert [name for name in review.dropped if not name.startswith("pr_123__")] == []
    assert private(shared) == set()

    text = review_markdown(review)
    assert "| `agg_daily_sales` | gold | modified |" in text
    assert "column retyped: `basket_lines` integer → bigint" in text
    assert "rows changed, by column: `baskets` in 1" in text


@pytest.mark.long
def test_a_review_of_an_untouched_project_finds_nothing(shared: Warehouse, edited: Callable[..., Path]) -> None:
    review = asyncio.run(builds.diff("123", project=edited()))
    assert (review.nodes, review.changes, review.ok) == ((), (), True)
    assert "**Nothing differs** from the build of" in review_markdown(review)


@pytest.mark.long
def test_a_review_that_fails_says_what_fails_and_drops_its_schemas(
    shared: Warehouse, edited: Callable[..., Path]
) -> None:
    project = edited(("models/silver/store.sql", "store_id", "nullif(store_id, (select min(store_id) from "
                      "{{ ref('stores_snapshot') }})) as store_id"))  # fmt: skip
    review = asyncio.run(builds.diff("123", project=project))
    assert not review.ok
    assert {node.name for node in review.failed} >= {"store_keys_hold"}
    assert "## Failures" in review_markdown(review)
    assert private(shared) == set()


@pytest.mark.long
def test_a_review_that_is_interrupted_stops_its_queries_and_drops_its_schemas(
    shared: Warehouse, edited: Callable[..., Path]
) -> None:
    """Ctrl-C, or a pipeline that is cancelled, while a query runs that would take a minute."""
    project = edited(("models/silver/household.sql", "where ranked.recency = 1",
                      "where ranked.recency = 1 and (select pg_sleep(60)) is not null"))  # fmt: skip
    code = "import asyncio, pathlib, sys; from flows.models import diff as builds; "
    code += "asyncio.run(builds.diff('9', project=pathlib.Path(sys.argv[1])))"
    # A query's text is cut there before it says so itself.
    sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
    with subprocess.Popen([sys.executable, "-c", code, project], cwd=ROOT, stderr=subprocess.DEVNULL) as review:
        until = time.monotonic() + 120
        while not shared.value(sleeping) and time.monotonic() < until:
            time.sleep(0.1)
        review.send_signal(signal.SIGINT)
        assert review.wait(timeout=40) != 0
    assert shared.rows("select nspname from pg_namespace where nspname ~ '^pr_9__'") == []
    assert shared.value(sleeping) == 0


@pytest.mark.long
def test_a_snapshot_goes_on_from_its_shared_history(shared: Warehouse, edited: Callable[..., Path]) -> None:
    """Built anew, every product would have one version that begins now, and every sale before would meet none."""
    project = edited(
        ("models/staging/shop/stg_shop__products.sql", "with source as (", "-- looked at\nwith source as (")
    )
    review = asyncio.run(builds.diff("123", project=project))
    snapshot = change_of(review, "products_snapshot")
    assert snapshot.difference is not None
    assert snapshot.difference.keys is not None
    assert snapshot.difference.keys.columns == ("product_id", "dbt_valid_from")
    assert snapshot.difference.same


def test_without_a_whole_build_the_next_move_is_told(
    shared: Warehouse, cluster: TestCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_warehouse(cluster) as empty:
        monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", empty.url("loader"))
        monkeypatch.setenv("MEDALLION_WAREHOUSE_TRANSFORMER_URL", empty.url("transformer"))
        settings.cache_clear()
        with pytest.raises(ConfigurationError, match="run `medallion transform` once"):
            asyncio.run(dev.build())
    monkeypatch.undo()
    settings.cache_clear()


@pytest.mark.long
def test_the_command_line_shows_rows_without_persons_and_writes_the_report(shared: Warehouse, tmp_path: Path) -> None:
    variables = {"COLUMNS": "150", "MEDALLION_DEV_NAME": "Grace"}
    built = medallion("dev", "build", "household", "-n", "3", variables=variables)
    assert built.code == 0, built.text
    assert "withheld as personal: full_name, email, phone" in built.out
    assert "@" not in built.out
    assert "dev_grace__silver.household: 60 rows" in built.out
    assert "dev_grace__silver" in medallion("dev", "list", variables=variables).out
    assert "dropped dev_grace__silver" in medallion("dev", "drop", variables=variables).out

    report = tmp_path / "reports" / "changes.md"
    reviewed = medallion("diff", "--name", "7", "--report", str(report), variables=variables)
    assert reviewed.code == 0, reviewed.text
    assert report.read_text().startswith("# What `7` changes in the warehouse\n\n**Nothing differs** from the build of")
    assert private(shared) == set()


# -- what is known of models


def test_a_build_is_told_to_openlineage_down_to_columns(shared: Warehouse) -> None:
    manifest = Manifest.read((shared.target / "manifest.json").read_bytes())
    results = json.loads((shared.target / "run_results.json").read_text())
    parent = LineageRun(uuid.uuid4(), "transform", tags={"run_id": "1"})
    url = shared.database.url("transformer")
    events = [json.loads(Serde.to_json(event)) for event in build_events("medallion", url, manifest, results, parent)]

    assert [mistake for event in events for mistake in mistakes(event)] == []
    heard = Counter((event["job"]["name"], event["eventType"]) for event in events)
    succeeded = {node["unique_id"] for node in results["results"] if node["status"] == "success"}
    built = {name for name in succeeded if not name.startswith("operation.")}
    assert set(heard.values()) == {1}
    assert sum(kind == "COMPLETE" and not job.endswith(".tests") for job, kind in heard) == len(built)
    assert ("dbt.fct_basket_lines.tests", "COMPLETE") in heard
    (daily,) = [e for e in events if (e["job"]["name"], e["eventType"]) == ("dbt.agg_daily_sales", "COMPLETE")]
    (written,) = daily["outputs"]
    origins = written["facets"]["columnLineage"]["fields"]["shop_discount"]["inputFields"]
    database = shared.database.name
    assert {(origin["name"], origin["field"]) for origin in origins} == {
        (f"{database}.gold.fct_baskets", "sales_value"), (f"{database}.gold.fct_baskets", "shelf_value"),
    }  # fmt: skip
    assert shared.database.cluster.passwords["medallion_transformer"] not in json.dumps(events)


def test_every_column_of_gold_leads_back_to_raw_and_none_to_a_personal_one(shared: Warehouse) -> None:
    """Contact details are not in gold, whatever a model calls them; and no model's SQL goes unread."""
    manifest = Manifest.read((shared.target / "manifest.json").read_bytes())
    lineage = Lineage(manifest)
    models = [relation for relation in manifest.relations.values() if relation.kind == "model"]
    for model in models:
        assert set(lineage.columns(model.unique_id)) == set(model.columns), model.name
    assert lineage.unread == {}
    assert {
        model.name: names for model in models if model.layer == "gold" and (names := lineage.personal(model.unique_id))
    } == {}
    gold = [
        (model, name)
        for model in models
        if model.layer == "gold" and model.name != "dim_date"
        for name in model.columns
    ]
    # Counts of rows and the moment of writing come from no column.
    unexplained = [(model.name, name) for model, name in gold if not lineage.parents(model.unique_id, name)]
    assert len(unexplained) < 0.1 * len(gold), unexplained
    raw = lineage.origins("model.medallion.agg_daily_sales", "shop_discount")
    assert raw == {
        ("source.medallion.shop.basket_items", column) for column in ("sales_value", "retail_disc", "coupon_match_disc")
    }
    told = {"full_name", "email", "phone", "latitude", "longitude"}
    assert lineage.personal("model.medallion.household") == told
    assert lineage.personal("model.medallion.quarantine_household") >= {"row_data"}


@pytest.mark.long
def test_a_new_model_builds_and_keeps_the_conventions_as_it_is_written(
    shared: Warehouse, edited: Callable[..., Path], tmp_path: Path
) -> None:
    project, root = edited(), tmp_path / "root"
    root.mkdir()
    (root / "dbt_project").symlink_to(project)
    new = partial(new_model, project=project, checks=root / "soda/gold_checks")
    asyncio.run(new("agg_store_week_sales", "gold", "fct_basket_lines", ("store_id", "sold_on")))
    asyncio.run(new("household_brief", "silver", "household"))
    written = asyncio.run(new("household_facts", "gold", "household"))
    assert sorted(path.name for path in written) == [
        "household_facts.sql", "household_facts.yml", "household_facts.yml",
    ]  # fmt: skip
    assert "email" not in "".join(path.read_text() for path in written)

    built = asyncio.run(dev.build(project=project))

    assert built.invocation.ok, [node for node in built.nodes if not node.ok]
    assert {"agg_store_week_sales", "household_brief", "household_facts"} <= {node.name for node in built.nodes}
    verdict = check_conventions(project)
    assert (verdict.problem, verdict.gaps) == ("", ())
    contracts = [write_gold_contract(name, root) for name in ("agg_store_week_sales", "household_facts")]
    assert [validate_contract(path) for path in contracts] == [[], []]
    with pytest.raises(DeclarationError, match="already exists"):
        asyncio.run(new("household_brief", "silver", "household"))
    with pytest.raises(DeclarationError, match="pass --by with columns of"):
        asyncio.run(new("another", "gold", "household", ("shoe_size",)))


RETURNS = """
create table raw_shop.returns (return_id bigint, reason text, _extracted_at timestamptz, _source_system text,
    _batch_id bigint, _deleted_at timestamptz);
insert into raw_shop.returns values (1, '01', now(), 'shop', 1, null), (2, '02', now(), 'shop', 1, now());
grant select on raw_shop.returns to medallion_transformer;
"""


@pytest.mark.long
def test_new_inputs_build_and_what_ones_own_build_made_is_read_by_further_new_models(
    shared: Warehouse, edited: Callable[..., Path], tmp_path: Path
) -> None:
    """From a table that was loaded just now: staging, a snapshot of it, a seed, and a silver model of the staging."""
    project = edited(
        (
            "models/staging/shop/_sources.yml",
            "    tables:\n",
            "    tables:\n      - name: returns\n        description: One row per returned item.\n",
        ),
    )
    (tmp_path / "reasons.csv").write_text("reason,label\n01,broken\n02,wrong\n")
    with psycopg.connect(shared.database.url("loader")) as connection:
        connection.execute(RETURNS.encode())
    new = partial(new_model, project=project)
    try:
        asyncio.run(new("stg_shop__returns", "staging", "shop.returns"))
        asyncio.run(new("return_reasons", "seed", str(tmp_path / "reasons.csv"), ("reason",)))
        with pytest.raises(DeclarationError, match="neither the last full build nor your own"):
            asyncio.run(new("returns_snapshot", "snapshot", "stg_shop__returns", ("return_id",)))
        assert asyncio.run(dev.build(project=project)).invocation.ok
        # The shared build has none of them.
        asyncio.run(new("returns_snapshot", "snapshot", "stg_shop__returns", ("return_id",)))
        asyncio.run(new("returned_item", "silver", "stg_shop__returns", ("return_id",)))
        built = asyncio.run(dev.build(project=project))
        assert built.invocation.ok, [node for node in built.nodes if not node.ok]
        assert shared.rows(
            "select return_id, rows_held, _loaded_batch_id from dev_ada_lovelace__silver.returned_item"
        ) == [{"return_id": 1, "rows_held": 1, "_loaded_batch_id": 1}]
        assert shared.value("select count(*) from dev_ada_lovelace__snapshots.returns_snapshot") == 1
        assert shared.value("select string_agg(reason, ' ') from dev_ada_lovelace__staging.return_reasons") == "01 02"
        verdict = check_conventions(project)
        assert verdict.problem == ""
        assert [f"{gap.model}: {gap.what}" for gap in verdict.gaps] == []
    finally:
        with psycopg.connect(shared.database.url("loader")) as connection:
            connection.execute("drop table raw_shop.returns cascade")


@pytest.mark.long
def test_broken_conventions_are_named_with_the_model(edited: Callable[..., Path]) -> None:
    project = edited(
        ("models/gold/stg_store.sql", "", "select * from gold.dim_store\n"),
        ("models/gold/stg_store.yml", "",
         "models:\n  - name: stg_store\n    description: Stores.\n    access: private\n    columns:\n"
         "      - {name: store_id, data_type: bigint}\n"),
        ("models/silver/visit.sql", "", "select basket_id from {{ source('shop', 'baskets') }}\n"),
    )  # fmt: skip
    found = {(gap.model, gap.what) for gap in check_conventions(project).gaps}
    of_store = " ".join(what for model, what in found if model == "stg_store")
    for expected in (
        "gold.dim_store is hard-coded", "columns without a description: store_id", "check_model_names",
        "check_model_description_contains_regexp_pattern", "check_model_access", "its key is not tested",
    ):  # fmt: skip
        assert expected in of_store
    of_visit = " ".join(what for model, what in found if model == "visit")
    for expected in (
        "no column is described",
        "check_lineage_source_cannot_be_used",
        "check_model_has_properties_file",
    ):
        assert expected in of_visit


def test_plain_dbt_builds_into_private_schemas_and_reads_the_rest_from_the_shared_build(
    shared: Warehouse, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """dbt's program itself, with a key of a source in the environment that models must not read."""
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", "postgresql://nobody:s3cret@127.0.0.1/shop")
    variables = plain_environment()
    with psycopg.connect(shared.database.url("transformer")) as connection:
        connection.execute(
            "update gold.receipt_nodes as n set as_of = "
            "(select coalesce(jsonb_object_agg(name, 7), '{}') from jsonb_object_keys(n.as_of) as name)"
        )
    of_gold = shared.rows("select * from gold.receipts order by 1")
    try:
        built = run_plain(["run", "--select", "agg_daily_sales"], variables)
        said = capfd.readouterr().out
        assert built == 0, said
        assert private(shared) == {"dev_ada_lovelace__gold.agg_daily_sales"}
        # Its receipt is private, and goes back to the shared tables that it was built from.
        (receipt,) = shared.rows("select table_name, sources from dev_ada_lovelace__gold.receipts")
        assert receipt["table_name"] == "agg_daily_sales"
        assert {source["as_of_batch"] for source in receipt["sources"]} == {7}
        assert shared.rows("select * from gold.receipts order by 1") == of_gold
        assert "1 of 1 OK created sql table model dev_ada_lovelace__gold.agg_daily_sales" in said
        assert run_plain(["compile", "--inline", "{{ env_var('MEDALLION_SOURCE_SHOP_URL') }}"], variables) != 0
        assert "s3cret" not in "".join(capfd.readouterr())
    finally:
        asyncio.run(dev.drop())


@pytest.mark.parametrize(
    ("arguments", "env_file"),
    [
        (["build"], False),
        (["run-operation", "grant_select"], False),
        (["--quiet", "run"], False),
        (["retry"], False),
        ([], True),
        (["test"], True),
    ],
)
def test_plain_dbt_changes_nothing_in_the_shared_schemas(arguments: list[str], env_file: bool) -> None:
    with pytest.raises(ConfigurationError, match="--shared"):
        refuse_shared_build(arguments, env_file=env_file)
    refuse_shared_build(["test", "--select", "gold"], env_file=False)
    refuse_shared_build([], env_file=False)  # dbt's help


def test_the_variables_of_plain_dbt_are_a_file_for_its_owner_alone(shared: Warehouse) -> None:
    written = write_env_file(plain_environment())
    assert written.stat().st_mode & 0o777 == 0o600
    source = f"set -a; source {written}; echo $MEDALLION_DBT_SCHEMA_PREFIX $DBT_DEFER"
    done = subprocess.run(["bash", "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["dev_ada_lovelace__", "true"]
    assert "MEDALLION_SOURCE" not in written.read_text()


@pytest.mark.long
def test_the_documents_are_whole_pages_that_ask_nobody(shared: Warehouse, tmp_path: Path) -> None:
    index, lineage = write_docs(tmp_path / "docs")
    assert "customer_360" in index.read_text()
    page = lineage.read_text()
    assert '"LINEAGE"' not in page
    assert not re.findall(r"(?:src|href)=", page)
    data = json.loads(page[page.index("const lineage = ") + 16 : page.index(";\nconst board")].replace("<\\/", "</"))
    (daily,) = [relation for relation in data["relations"] if relation["name"] == "agg_daily_sales"]
    (discount,) = [column for column in daily["columns"] if column["name"] == "shop_discount"]
    fct = data["relations"].index(next(r for r in data["relations"] if r["name"] == "fct_baskets"))
    assert discount["from"] == [[fct, "sales_value"], [fct, "shelf_value"]]
    assert discount["type"] == "numeric(14,2)"
