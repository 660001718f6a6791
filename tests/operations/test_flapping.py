"""An alert that fires and resolves again and again is sent as one that flaps, once, and then how often it fired."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flows.declare import Route
from flows.operations import flapping
from flows.operations.alerts import open_alerts
from tests.conftest import TestDatabase
from tests.operations.alerting import Desk, condition, desk
from tests.operations.receivers import webhook

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


async def flap(it: Desk, times: int, severity: str = "warning") -> None:
    """It fires and resolves so many times, each within two minutes."""
    for _ in range(times):
        await it.found(condition(severity=severity))
        await it.pass_by(MINUTE)
        await it.found()
        await it.pass_by(MINUTE)


async def test_what_flaps_is_sent_once_as_such_and_counted_when_it_is_calm(warehouse: TestDatabase) -> None:
    with webhook() as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            await flap(it, 3)
            assert receiver.events == ["opened", "resolved"] * 3, "somebody may wait for the result of a fix"
            await flap(it, 9)
            assert receiver.events[6:] == ["flapping"]
            said = receiver.accepted[6]
            assert "flapping: late shop.baskets" in said["title"] + said["subject"]
            assert "4 times within an hour (late shop.baskets)" in said["note"]
            assert said["runbook"].endswith("runbooks/late.md")
            await it.pass_by(HOUR)
            assert receiver.events[7:] == ["resolved"]
            over = receiver.accepted[7]
            assert "fired 9 times" in over["note"]
            assert over["title"] == "late shop.baskets: two hours old", "one alert, not nine"
            # What comes later is news again.
            await it.connection.execute("update ops.alerts set fired_at = fired_at - interval '3 hours'")
            await flap(it, 1)
            assert receiver.events[8:] == ["opened", "resolved"]


async def test_without_damping_each_change_is_a_message(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    monkeypatch.setattr(flapping, "TIMES", 1_000)
    with webhook() as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            await flap(it, 12)
    assert receiver.events == ["opened", "resolved"] * 12


async def test_what_flaps_and_gets_worse_is_sent_and_what_keeps_firing_ends_with_its_end(
    warehouse: TestDatabase,
) -> None:
    with webhook() as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            await flap(it, 5)
            assert receiver.events[6:] == ["flapping"]
            await flap(it, 2, "critical")
            assert receiver.events[7:] == ["changed"]
            assert receiver.accepted[7]["severity"] == "critical"
            await it.found(condition(severity="warning"))
            for _ in range(3):
                await it.pass_by(HOUR)
            assert receiver.events[8:] == [], "it fires still"
            await it.found()
            await it.pass_by(MINUTE)
            assert receiver.events[8:] == ["resolved"]


async def test_what_flaps_inside_of_an_open_incident_is_no_message_each_time(warehouse: TestDatabase) -> None:
    other = condition("shop.stores", severity="warning", cause="shop: unavailable")
    with webhook() as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            for _ in range(9):
                await it.found(other, condition(severity="warning", cause="shop: unavailable"))
                await it.pass_by(MINUTE)
                await it.found(other)
                await it.pass_by(MINUTE)
            assert receiver.events == ["opened", "grew", "grew", "flapping"]
            assert await it.names() == ["late shop.stores"]


async def test_another_alert_beside_it_is_sent_as_always(warehouse: TestDatabase) -> None:
    with webhook() as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            await flap(it, 6)
            await it.found(condition("web.visits", severity="warning"))
            await it.pass_by(MINUTE)
            assert receiver.events[7:] == ["opened"]


async def test_a_cause_that_alternates_is_sent_three_times_within_an_hour(warehouse: TestDatabase) -> None:
    with webhook() as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            for number in range(12):
                await it.found(condition(severity="warning", cause=f"cause {number % 2}"))
                await it.pass_by(MINUTE)
            assert receiver.events == ["opened", "changed", "changed", "changed"]
            await it.found(condition(severity="error", cause="cause 0"))
            await it.pass_by(MINUTE)
            assert receiver.events[4:] == ["changed"], "it is worse"


async def test_somebody_who_acknowledged_it_is_not_escalated_when_it_fires_again(warehouse: TestDatabase) -> None:
    from flows.operations.alerts import acknowledge

    route = Route(["team"], escalate_after="30 min", escalate_to=["lead"])
    with webhook() as team, webhook() as lead:
        async with desk(warehouse, [route], {"team": team.url, "lead": lead.url}) as it:
            await flap(it, 4)
            await it.found(condition(severity="warning"))
            await it.pass_by(MINUTE)
            (alert,) = await open_alerts(it.connection)
            assert alert.flapping
            await acknowledge(it.connection, [alert.alert_id], "ada", None)
            for _ in range(3):
                await it.pass_by(HOUR)
    assert lead.events == []
