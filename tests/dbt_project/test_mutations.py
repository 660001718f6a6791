"""The suite sees the mistakes of mutations.py: one in every model here, all of them by `python -m …mutations`."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.dbt_project.built_warehouse import Story
from tests.dbt_project.mutations import ALL, MUTATIONS, RESULTS, Mutation, catch, rounds, write_results

pytestmark = pytest.mark.xdist_group("dbt")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mistake_can_still_be_made(mutation: Mutation) -> None:
    text = (ROOT / "dbt_project" / mutation.file).read_text()
    assert text.count(mutation.find) == 1, "the model has changed: say the mistake anew, and run all of them"


def test_every_model_of_gold_with_a_unit_test_is_tried() -> None:
    """A unit test that no mistake makes fail proves nothing."""
    tested = {
        path.stem
        for path in (ROOT / "dbt_project/models/gold").glob("*.yml")
        if "unit_tests" in yaml.safe_load(path.read_text())
    }
    assert len(tested) >= 15
    assert tested <= {model for mutation in MUTATIONS for model in mutation.models}


def test_one_mistake_in_every_model_is_seen(transformed: Story, tmp_path: Path) -> None:
    first, *others = rounds(MUTATIONS)
    caught = catch(transformed.warehouse, first, tmp_path / "first")
    if ALL in os.environ:
        for number, chosen in enumerate(others, 2):
            caught |= catch(transformed.warehouse, chosen, tmp_path / str(number))
        write_results(caught)
    assert [name for name, tests in caught.items() if not tests] == []


def test_the_result_of_all_mistakes_is_of_todays_list() -> None:
    """Else run `python -m tests.dbt_project.mutations`."""
    recorded = json.loads(RESULTS.read_text())
    kept = [{name: value for name, value in record.items() if name != "caught_by"} for record in recorded]
    assert kept == json.loads(json.dumps([asdict(mutation) for mutation in MUTATIONS]))
    assert all(record["caught_by"] for record in recorded)
    assert len(recorded) >= 20
