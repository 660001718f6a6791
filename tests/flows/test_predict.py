"""The flow predict on a real Prefect server: what it publishes, and what stays when it refuses."""

from dataclasses import replace
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from flows.predict import predict
from flows.scoring.churn import CHURN
from flows.values.errors import DataRefused
from tests.flows.conftest import Ends
from tests.flows.prefect_facts import artifacts
from tests.kinds.loading import rows
from tests.scoring.small_gold import fill_gold


def test_scores_are_published_once_and_a_worse_model_takes_none_of_them_away(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_gold(ends.warehouse)
    state: State[Any] = predict(return_state=True)
    facts = state.result()

    assert (facts["version"], facts["is_new"]) == (1, True)
    assert "published" in artifacts(state)["model-churn"]
    scores = rows(ends.warehouse, "select * from ml.customer_scores order by household_id")
    assert len(scores) == facts["households"] > 200
    assert predict(return_state=True).result()["is_new"] is False

    monkeypatch.setattr("flows.predict.CHURN", replace(CHURN, least_auc=0.999))
    strict: State[Any] = predict(return_state=True)
    with pytest.raises(DataRefused, match=r"and 1\.00 is the least"):
        strict.result()

    assert "refused" in artifacts(strict)["model-churn"]
    assert rows(ends.warehouse, "select * from ml.customer_scores order by household_id") == scores
    assert rows(ends.warehouse, "select version, status from ml.model_versions order by version") == [
        {"version": 1, "status": "published"},
        {"version": 2, "status": "refused"},
    ]
    assert rows(ends.warehouse, "select pipeline, status from ops.runs order by run_id") == [
        {"pipeline": "predict", "status": "done"},
        {"pipeline": "predict", "status": "done"},
        {"pipeline": "predict", "status": "refused"},
    ]
