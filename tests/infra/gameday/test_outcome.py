"""What is wrong with a fault, by the messages that were received while it was there and after it."""

from typing import Any

import pytest

from infra.gameday.fault import Fault
from infra.gameday.outcome import Outcome
from infra.gameday.receiver import Message

FAULT = Fault("down", "…", lambda _: None, ("load failed game.*",), ("run failed *",), "warning")


def message(
    event: str,
    alert: str = "load failed",
    *,
    number: int | None = 1,
    incident: int | None = 1,
    severity: str = "warning",
    key: str = "",
) -> Message:
    status = "resolved" if event == "resolved" else "firing"
    content: dict[str, Any] = {
        "event": event,
        "incident": incident,
        "since": "2026-01-01T00:00:00+00:00",
        "alerts": [
            {
                "id": number,
                "name": alert,
                "subject": "game.events",
                "severity": severity,
                "status": status,
                "since": "…",
            }
        ],
    }
    return Message(1.0, key or f"{event} {incident}", content)


def problems(*messages: Message) -> list[str]:
    outcome = Outcome("down", "…", "warning", "…")
    outcome.add_alerts(FAULT, [*messages])
    return outcome.problems


def test_an_alert_that_is_raised_once_and_resolved_is_right() -> None:
    assert problems(message("opened"), message("grew"), message("resolved")) == []


def test_a_message_that_is_delivered_again_under_its_key_counts_once() -> None:
    assert problems(message("opened"), message("opened"), message("resolved")) == []


def test_an_alert_that_was_sent_directly_has_no_number_and_counts() -> None:
    sent = [message(event, number=None, incident=None, key=event) for event in ("opened", "resolved")]
    assert problems(*sent) == []


def test_an_event_has_no_end() -> None:
    fault = Fault("retyped", "…", lambda _: None, ("schema changed *",), severity="warning")
    outcome = Outcome("retyped", "…", "warning", "…")
    outcome.add_alerts(fault, [message("opened", "schema changed")])
    assert outcome.problems == []


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([], "no alert `load failed game.*`"),
        ([message("opened", severity="info"), message("resolved", severity="info")], "of severity warning"),
        ([message("opened")], "its end was not sent: load failed game.events"),
        ([message("opened"), message("resolved"), message("opened", key="other")], "2 messages 'opened'"),
        (
            [
                *(message("opened", number=n, incident=n) for n in (1, 2)),
                *(message("resolved", number=n, incident=n) for n in (1, 2)),
            ],
            "raised 2 times: load failed game.events",
        ),
        (
            [
                *(message(event) for event in ("opened", "resolved")),
                *(message(event, "disk full soon", number=2, incident=2) for event in ("opened", "resolved")),
            ],
            "an alert that has nothing to do with it: disk full soon game.events",
        ),
    ],
)
def test_an_alert_that_is_missing_repeated_not_over_or_of_something_else_is_a_problem(
    messages: list[Message], problem: str
) -> None:
    assert any(problem in found for found in problems(*messages))
