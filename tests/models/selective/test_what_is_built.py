"""What makes a build, on a real warehouse and a small project: each cause alone, and that nothing else builds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from flows.models.selective.build import SelectiveBuild
from flows.models.selective.decision import Decision
from tests.conftest import TestCluster, fresh_warehouse
from tests.dbt_project.quick_dbt import hurrying
from tests.models.selective.small_project import ALL, SmallWarehouse

pytestmark = pytest.mark.xdist_group("selective")


def test_where_nothing_changed_nothing_is_built_and_no_table_is_locked(small: SmallWarehouse) -> None:
    """A reader holds every table exclusively meanwhile: a build that touched one would wait for it."""
    with psycopg.connect(small.database.url("transformer")) as reader:
        reader.execute("lock table gold.total, gold.latest, silver.joined in access exclusive mode")
        assert small.build()
    assert small.nodes_built() == set()


def test_a_project_that_changed_without_making_anything_due_is_parsed_once(small: SmallWarehouse) -> None:
    small.add_yaml("described", "models: [{name: total, description: A sum.}]")
    assert small.build()
    assert small.nodes_built() == set()
    build, _ = small.decided()
    assert build.stored_project() is not None


def test_rows_of_a_load_build_what_reads_them_and_not_the_views_that_pass_them_on(small: SmallWarehouse) -> None:
    small.load("notes", "insert into raw_shop.notes values (10, 'ten')")
    assert small.build()
    assert small.nodes_built() == {"marked"}

    small.load("orders", "update raw_shop.orders set amount = '50' where id = 1")
    assert small.build()
    assert small.nodes_built() == {"joined", "kept", "latest", "total", "seen"}


def test_rows_that_others_wrote_are_seen_without_the_ledger(small: SmallWarehouse) -> None:
    small.sql("loader", "delete from raw_shop.notes where id = 10")
    small.sql("loader", "insert into raw_shop.notes values (11, 'eleven')")
    assert small.build()
    assert small.nodes_built() == {"marked"}


def test_what_follows_from_a_model_whose_rows_are_the_same_is_left_as_it_is(small: SmallWarehouse) -> None:
    """Another version of the same rows: the models that read them are built, and nothing that follows from those."""
    small.load("orders", "update raw_shop.orders set amount = amount where id < 4")
    assert small.build()
    assert small.nodes_built() == {"joined", "kept"}
    assert small.build()
    assert small.nodes_built() == set()


def test_rows_that_others_brought_in_place_do_not_hide_a_change_from_what_follows(small: SmallWarehouse) -> None:
    """Before and after the build the table is the same, but not what was read of it last."""
    small.load("orders", "update raw_shop.orders set amount = '44' where id = 1")
    factor = small.values["factor"]
    small.sql("transformer", f"update silver.joined set amount = {factor} * 44 + 1 where id in (6, 12)")
    assert small.build()
    assert small.nodes_built() >= {"joined", "kept", "total", "seen"}
    assert small.differing() == []


@pytest.mark.parametrize(
    ("values", "follows"),
    [
        ({"factor": 3}, {"joined", "total", "seen"}),  # in a macro that only a macro calls
        ({"step": 5}, {"total", "seen"}),  # a variable
        ({"label": "eins"}, {"codes", "coded", "total", "seen"}),  # a seed
        ({"shift": 9}, {"total", "seen"}),  # the model's own code
        ({"mark": 8}, {"marked"}),  # in a macro that only a hook calls
    ],
    ids=["macro of a macro", "variable", "seed", "code", "macro of a hook"],
)
def test_changed_code_builds_what_it_decides_and_what_follows(
    small: SmallWarehouse, values: dict[str, object], follows: set[str]
) -> None:
    small.edit(**values)
    assert small.build()
    assert small.nodes_built() == follows


def test_a_build_that_failed_is_tried_again_with_what_follows_from_it(small: SmallWarehouse) -> None:
    small.load("orders", "update raw_shop.orders set amount = 'many' where id = 2")
    assert not small.build()
    small.load("orders", "update raw_shop.orders set amount = '2' where id = 2")
    assert small.build()
    assert small.nodes_built() >= {"joined", "kept", "total"}


def test_a_failed_test_is_tried_again_until_it_passes_though_nothing_else_changes(small: SmallWarehouse) -> None:
    small.load("orders", "update raw_shop.orders set amount = '-1' where id = 3")
    assert not small.build()
    assert not small.build()
    assert small.last is not None
    assert "it failed last time" in small.last.reasons.values()
    small.load("orders", "update raw_shop.orders set amount = '3' where id = 3")
    assert small.build()


@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_what_a_killed_build_had_selected_is_built_again(small: SmallWarehouse, nodes: int) -> None:
    small.load("orders", f"update raw_shop.orders set amount = '{70 + nodes}' where id = 4")
    small.killed_build(nodes)
    assert small.build()
    assert small.nodes_built() >= {"joined", "kept", "latest", "total"}


def test_after_a_killed_build_of_a_selection_everything_is_built(small: SmallWarehouse) -> None:
    small.load("notes", "insert into raw_shop.notes values (12, 'twelve')")
    small.killed_build(0, select="joined+")
    assert small.build()
    assert small.nodes_built() == ALL


def test_a_built_selection_leaves_the_rest_to_the_next_build(small: SmallWarehouse) -> None:
    small.load("orders", "update raw_shop.orders set amount = '90' where id = 5")
    assert small.build(select="joined")
    assert small.build()
    assert small.nodes_built() == {"kept", "latest", "total", "seen"}


@pytest.mark.parametrize(
    ("statement", "follows"),
    [
        ("drop table gold.total cascade", {"total", "seen"}),
        ("delete from silver.kept where id = 1", {"kept", "latest"}),
        ("truncate silver.coded", {"coded", "total", "seen"}),
        ("create or replace view gold.seen as select 'x' as label, 1::bigint as amount", {"seen"}),
        ("grant select on gold.marked to public", {"marked"}),
    ],
    ids=["dropped", "rows deleted", "truncated", "view replaced", "grant"],
)
def test_what_others_did_to_a_model_builds_it_again(small: SmallWarehouse, statement: str, follows: set[str]) -> None:
    if statement.startswith("create or replace"):
        small.sql("transformer", "drop view gold.seen")
    small.sql("transformer", statement)
    assert small.build()
    assert small.nodes_built() == follows


def test_release_rollback_and_private_build_leave_gold_as_a_full_build_would(small: SmallWarehouse) -> None:
    small.edit(shift=20)
    assert small.release()
    assert small.build()
    assert small.differing() == []
    small.load("orders", "update raw_shop.orders set amount = '33' where id = 6")
    small.roll_back()
    assert small.build()
    assert small.differing() == []
    assert small.dbt("build", prefix="dev_ada__", folder=small.folder / "dev").ok
    assert small.build()
    assert small.nodes_built() == set()


def test_another_day_builds_what_depends_on_the_day(small: SmallWarehouse) -> None:
    small.sql("loader", "update ops.model_builds set inputs = inputs || '{\"the day\": \"2020-02-29\"}' "
              "where node_id = 'model.medallion.latest'")  # fmt: skip
    assert small.build()
    assert small.nodes_built() == {"latest"}


def _forgets(words: str) -> Callable[[SelectiveBuild, Decision], Decision]:
    """A selection that takes no notice of one cause, and of what follows from it."""

    def forget(_: SelectiveBuild, decision: Decision) -> Decision:
        if any(words in reason for reason in decision.reasons.values()):
            return replace(decision, reasons={})
        return decision

    return forget


def test_controls_that_forget_a_cause_are_caught(cluster: TestCluster, tmp_path: Path) -> None:
    """What the tests above call equal would also be called equal if nothing compared it."""
    with hurrying(), fresh_warehouse(cluster) as database:
        small = SmallWarehouse(database, tmp_path)
        assert small.build()
        assert small.differing() == []
        small.sabotage = _forgets("code, configuration or variables")
        for values in ({"factor": 4}, {"label": "uno"}, {"step": 3}):
            before = dict(small.values)
            small.edit(**values)
            assert small.build()
            assert small.differing() != [], values
            small.edit(**before)
        small.sabotage = _forgets("did not finish")
        small.load("orders", "update raw_shop.orders set amount = '77' where id = 4")
        small.killed_build(1)
        assert small.build()
        assert small.differing() != []


def test_a_model_of_other_time_zones_days_is_built_when_one_of_them_may_have_begun(small: SmallWarehouse) -> None:
    small.add(silver__local="{{ config(meta={'reads_clock': 'each_day'}) }} "
              "select (now() at time zone 'Asia/Tokyo')::date as day")  # fmt: skip
    assert small.build()
    small.sql("loader", "update ops.model_builds set inputs = inputs || jsonb_build_object('the day', "
              "current_date::text) where node_id = 'model.medallion.local'")  # fmt: skip
    assert small.build()
    assert small.nodes_built() == {"local"}
