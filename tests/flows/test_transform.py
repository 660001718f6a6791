"""The gates of transform, on a real Prefect server and without dbt."""

from typing import Any

import pytest
from prefect.client.schemas.objects import State

from flows import tasks
from flows.spec.errors import DataRefused
from flows.transform import transform
from tests.flows.conftest import Ends
from tests.flows.prefect_facts import artifacts
from tests.loads.loading import rows


def test_a_closed_raw_gate_stops_before_dbt(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was ever loaded, so no contract of raw can hold."""
    started: list[str] = []
    monkeypatch.setattr("flows.transform.build", lambda **_: started.append("dbt"))

    state: State[Any] = transform(return_state=True)

    with pytest.raises(DataRefused, match=r"gate raw: \d+ of \d+ checks do not pass") as caught:
        state.result()
    assert started == []
    assert "soda/raw" in caught.value.next_move
    assert rows(ends.warehouse, "select pipeline, status from ops.runs") == [
        {"pipeline": "transform", "status": "refused"}
    ]
    assert len(rows(ends.warehouse, "select * from ops.check_results")) > 0
    assert "closed" in artifacts(state)["gate-raw"]
    assert rows(ends.warehouse, "select failure_class, location from ops.errors") == [
        {"failure_class": "data", "location": "gate raw"}
    ]


def test_a_gate_without_a_single_contract_is_no_open_gate(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_contracts", lambda *_: [])

    state: State[Any] = transform(return_state=True)

    with pytest.raises(DataRefused, match="there is no contract to check"):
        state.result()
