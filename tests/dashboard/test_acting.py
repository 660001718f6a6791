"""What an operator does on the pages: as the command line does it, with a row for each step."""

import re
from collections.abc import Iterator

import pytest

from flows.dashboard import acting
from flows.declare import Merge, Rule, Timestamp
from flows.kinds.postgres import Database, Table
from flows.verbs import find
from flows.verbs.replay import Outcome, Replayed
from tests.conftest import TestCluster, fresh_shop, fresh_warehouse
from tests.dashboard.served import Browser, Served, serving
from tests.dashboard.test_pages import fire
from tests.publish.two_ends import TwoEnds, run_sql

pytestmark = pytest.mark.xdist_group("dashboard")
TABLE = Table(
    "baskets", key="basket_id", cursor=Timestamp("updated_at"), load=Merge(), max_quarantined=1.0,
    rules=(Rule("store_is_known", "store_id < 0 or basket_id % 2 = 0"),),
)  # fmt: skip
LENIENT = Table("baskets", key="basket_id", cursor=Timestamp("updated_at"), load=Merge())
STEPS = "select person, action, subject, outcome from ops.dashboard_actions order by action_id"


@pytest.fixture(scope="module")
def running(cluster: TestCluster) -> Iterator[Served]:
    with fresh_warehouse(cluster) as warehouse, serving(warehouse) as found:
        yield found


@pytest.fixture
def otto(running: Served) -> Browser:
    return running.login("otto")


def steps(running: Served) -> list[tuple[str, ...]]:
    return run_sql(running.warehouse.url("loader"), STEPS)


def test_an_alert_is_taken_up_by_the_name_of_who_did(running: Served, otto: Browser) -> None:
    fire(running, "shop.stores")
    ((number,),) = run_sql(running.warehouse.url("loader"), "select max(alert_id) from ops.alerts")
    path = f"/alert?id={number}"
    assert otto.post("/alerts/acknowledge", csrf=otto.csrf(path), id=str(number), note="on it").status_code == 303
    text = otto.get(path).text
    assert "acknowledged" in text
    assert "on it" in text
    assert steps(running)[-1] == ("otto", "acknowledge", f"alert {number}", "done")
    told = run_sql(running.warehouse.url("loader"), "select by_whom from ops.alert_transitions order by 1 limit 1")
    assert told == [("otto",)]


def test_what_cannot_be_done_leaves_no_row_that_says_it_was(running: Served, otto: Browser) -> None:
    before = steps(running)
    assert otto.post("/alerts/acknowledge", id="999999").status_code in (404, 503)
    assert otto.post("/alerts/unsilence", id="999999").status_code in (404, 503)
    assert otto.post("/alerts/silence", pattern="late *", lasting="1 year", reason="x").status_code == 400
    assert otto.post("/alerts/silence", pattern="late *", lasting="1 h", reason="").status_code == 400
    assert steps(running) == before


def test_a_silence_is_set_with_its_reason_and_ended(running: Served, otto: Browser) -> None:
    assert (
        otto.post("/alerts/silence", pattern="late marketing.*", lasting="4 h", reason="maintenance").status_code == 303
    )
    text = otto.get("/alerts").text
    assert "late marketing.*" in text
    assert "maintenance" in text
    number = re.findall(r'name="id" value="(\d+)"', text)[-1]
    assert otto.post("/alerts/unsilence", id=number).status_code == 303
    assert [step[1] for step in steps(running)[-2:]] == ["silence", "end silence"]


def test_rows_of_what_was_done_are_never_changed(running: Served, otto: Browser) -> None:
    otto.post("/alerts/silence", pattern="late x", lasting="1 h", reason="x")
    for statement in ("delete from ops.dashboard_actions", "update ops.dashboard_actions set person = 'vera'"):
        with pytest.raises(Exception, match="only added"):
            run_sql(running.warehouse.url("loader"), statement)


async def test_quarantined_rows_are_planned_confirmed_and_loaded_again(
    cluster: TestCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A yes holds for the plan that was shown: rows that came meanwhile are shown before they are loaded."""
    with fresh_warehouse(cluster) as warehouse, fresh_shop(cluster) as shop, serving(warehouse) as running:
        ends, otto = TwoEnds(warehouse, shop), running.login("otto")
        await ends.load(TABLE)
        refused = ends.raw("select count(*) from quarantine.rows where resolved_at is null")[0][0]
        assert refused > 2
        # The rule was too strict, and is corrected.
        monkeypatch.setattr(find, "SOURCES", (Database("shop", connection="shop", tables=[LENIENT]),))
        page = otto.get("/quarantine?name=shop.baskets").text
        assert "Plan a replay" in page
        assert "store_is_known" in page
        plan = otto.post("/quarantine/plan", name="shop.baskets")
        assert f'<td class="num">{refused}</td><td><span class="tag st-published">' in plan.text.replace(",", "")
        told = re.findall(r'name="plan" value="(\w+)"', plan.text)[0]
        assert ends.raw("select count(*) from quarantine.rows where resolved_at is null") == [(refused,)]
        ends.raw("update quarantine.rows set resolved_at = now(), resolution = 'discarded' "
                 "where quarantine_id = (select min(quarantine_id) from quarantine.rows)")  # fmt: skip
        changed = otto.post("/quarantine/replay", name="shop.baskets", plan=told)
        assert changed.status_code == 409
        assert "Nothing was loaded" in changed.text
        assert steps(running) == []
        told = re.findall(r'name="plan" value="(\w+)"', changed.text)[0]
        done = otto.post("/quarantine/replay", name="shop.baskets", plan=told)
        assert done.status_code == 200
        assert "would be" not in done.text
        assert ends.raw("select count(*) from quarantine.rows where resolved_at is null") == [(0,)]
        assert [step[1:] for step in steps(running)] == [
            ("replay", "shop.baskets", "began"), ("replay", "shop.baskets", "done")
        ]  # fmt: skip
        # Nothing is left: the button cannot be pressed twice.
        assert otto.post("/quarantine/replay", name="shop.baskets", plan=told).status_code == 404


def test_a_replay_of_a_table_that_is_not_declared_is_refused(otto: Browser) -> None:
    for name in ("shop.nothing", "", "1", "pg_catalog.pg_class"):
        assert otto.post("/quarantine/plan", name=name).status_code == 404


def test_a_plan_that_differs_in_anything_is_another() -> None:
    shown = ((None, 1, [1]), (None, 2, [1, 2]), ("twice", 1, [1]), (None, 1, [2]))
    plans = [[Replayed("t", [Outcome("t", "r", verdict, rows, ids)])] for verdict, rows, ids in shown]
    assert len({acting.fingerprint(plan) for plan in plans}) == 4
