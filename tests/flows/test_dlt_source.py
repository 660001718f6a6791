"""A dlt source through the same flows and commands as any other."""

import pytest

from flows.ingest import ingest
from flows.kinds.dlt import DltSource, Resource
from flows.reconcile import reconcile
from flows.values.errors import DeclarationError
from flows.verbs.backfill import dividing_column
from flows.verbs.find import find_table
from flows.verbs.plan import plan_sources
from tests.flows.conftest import Ends
from tests.kinds.dlt.loading import RecordsFile, file
from tests.kinds.loading import loads, rows

pytest.importorskip("dlt", reason="the extra `dlt` is not installed")

pytestmark = pytest.mark.xdist_group("dlt")

__all__ = ["file"]  # a fixture

CRM = DltSource(
    "crm",
    build="tests.kinds.dlt.sources:things",
    resources=[Resource("things", key_type="bigint", count="tests.kinds.dlt.sources:how_many"), Resource("nothing")],
)


async def test_a_dlt_source_is_planned_run_compared_and_refused_a_backfill(
    ends: Ends, file: RecordsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.verbs.find.SOURCES", [CRM])
    file.hold({"id": 1}, {"id": 2})

    planned, unplanned = await plan_sources({"crm": None})
    state = await ingest(source="crm", tables=["things"], return_state=True)
    compared = await reconcile(sources=["crm.things"])

    assert planned.plan is not None
    assert (planned.plan.strategy, planned.state) == ("initial", "pending")
    assert unplanned.error is not None
    assert "use one of parts, slow_parts, things" in unplanned.error.fix
    assert state.is_completed()
    assert [row["id"] for row in rows(ends.warehouse, "select id from raw_crm.things order by 1")] == [1, 2]
    assert [load["reconciliation"] for load in loads(ends.warehouse)] == ["match"]
    assert (compared[0]["result"], compared[0]["method"], compared[0]["source_rows"]) == ("match", "count", 2)
    with pytest.raises(DeclarationError, match=r"crm is a dlt source, .*medallion reload crm.things --recreate"):
        dividing_column(*find_table("crm.things"), "at")
