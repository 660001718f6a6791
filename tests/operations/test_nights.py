"""Quiet hours, silences, escalation and clocks together: who is told of what at night."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flows.declare import QuietHours, Route
from flows.operations.alerts import acknowledge
from flows.operations.silences import silence
from flows.values.errors import DeclarationError
from tests.conftest import TestDatabase
from tests.operations.alerting import condition, desk
from tests.operations.receivers import webhook

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SETTLE = timedelta(seconds=30)


def quiet(hours: int = 8) -> QuietHours:
    """Quiet since an hour ago, for so many hours from now."""
    now = datetime.now(UTC)
    return QuietHours(f"{now - HOUR:%H:%M}", f"{now + hours * HOUR:%H:%M}")


async def test_what_becomes_critical_in_quiet_hours_is_sent_at_once_with_its_beginning(warehouse: TestDatabase) -> None:
    with webhook() as receiver:
        async with desk(warehouse, [Route(["team"], quiet=quiet())], {"team": receiver.url}) as it:
            await it.found(condition(severity="warning"))
            await it.pass_by(MINUTE)
            assert receiver.events == []
            await it.found(condition(severity="critical"))
            await it.pass_by(MINUTE)
    assert receiver.events == ["opened", "changed"]


async def test_nothing_is_escalated_that_waits_for_the_end_of_quiet_hours(warehouse: TestDatabase) -> None:
    route = Route(["team"], quiet=quiet(3), escalate_after="30 min", escalate_to=["lead"])
    with webhook() as team, webhook() as lead:
        async with desk(warehouse, [route], {"team": team.url, "lead": lead.url}) as it:
            await it.found(condition(severity="warning"))
            await it.pass_by(MINUTE)
            await it.pass_by(HOUR)
            assert lead.events == []
            # The control: critical, it is sent, and not acknowledged in time.
            await it.found(condition(severity="critical"))
            await it.pass_by(MINUTE)
            await it.pass_by(HOUR)
            assert lead.events == ["escalated"]


async def test_each_route_escalates_after_its_own_time_and_once(warehouse: TestDatabase) -> None:
    routes = [
        Route(["team"], escalate_after="10 min", escalate_to=["lead"]),
        Route(["team"], escalate_after="1 h", escalate_to=["lead", "head"]),
    ]
    with webhook() as team, webhook() as lead, webhook() as head:
        async with desk(warehouse, routes, {"team": team.url, "lead": lead.url, "head": head.url}) as it:
            await it.found(condition())
            await it.pass_by(MINUTE)
            await it.pass_by(15 * MINUTE)
            assert (lead.events, head.events) == (["escalated"], [])
            for _ in range(3):
                await it.pass_by(HOUR)
    assert (lead.events, head.events) == (["escalated"], ["escalated"])


async def test_what_is_silenced_and_changes_is_not_sent_and_keeps_who_took_it_up(warehouse: TestDatabase) -> None:
    with webhook() as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            await it.found(condition(severity="warning"))
            await it.pass_by(MINUTE)
            (alert,) = await it.open()
            await acknowledge(it.connection, [alert.alert_id], "ada", None)
            await silence(it.connection, "late *", HOUR, "known", "ada")
            await it.found(condition(severity="error", cause="another"))
            await it.pass_by(MINUTE)
            assert receiver.events == ["opened", "acknowledged"]
            await it.pass_by(2 * HOUR)
            (alert,) = await it.open()
            assert (alert.status, alert.severity) == ("acknowledged", "error")
    assert receiver.events[2:] == ["silence ended"]


async def test_the_end_of_a_silence_wakes_nobody_in_quiet_hours(warehouse: TestDatabase) -> None:
    with webhook() as team, webhook() as day:
        routes = [Route(["team"], quiet=quiet(3)), Route(["day"])]
        async with desk(warehouse, routes, {"team": team.url, "day": day.url}) as it:
            await silence(it.connection, "late *", timedelta(seconds=1), "known", "ada")
            await it.pass_by(MINUTE)
            assert (team.events, day.events) == ([], ["silence ended"])
            await it.pass_by(4 * HOUR)
            assert team.events == ["silence ended"]


async def test_a_clock_that_was_set_back_holds_no_alert_back(warehouse: TestDatabase) -> None:
    with webhook() as receiver:
        async with desk(warehouse, channels={"default": receiver.url}, settle=SETTLE) as it:
            await it.found(condition())
            it.now -= 3 * HOUR
            await it.pass_by()
    assert receiver.events == ["opened"]


async def test_a_clock_that_was_set_back_holds_no_attempt_back(warehouse: TestDatabase) -> None:
    with webhook(answers=[500, 200]) as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            it.now += 3 * HOUR
            await it.found(condition())
            await it.pass_by()
            it.now -= 3 * HOUR
            await it.pass_by(MINUTE)
    assert receiver.events == ["opened"]


@pytest.mark.parametrize(
    ("moment", "end"),
    [
        (datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),  # 02:30 does not exist
        (datetime(2026, 10, 24, 23, tzinfo=UTC), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        (datetime(2026, 10, 25, 1, 10, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),  # 02:10 once more
    ],
)
def test_quiet_hours_end_after_they_begin_when_clocks_change(moment: datetime, end: datetime) -> None:
    assert QuietHours("22:00", "02:30", "Europe/Berlin").over_at(moment) == end


def test_quiet_hours_with_an_offset_are_refused() -> None:
    with pytest.raises(DeclarationError, match="cannot be read"):
        QuietHours("22:00", "07:00+02:00")
