"""What came of a fault, and what is wrong with it: read from the messages that were received."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from infra.gameday.fault import Fault
from infra.gameday.receiver import Message

_RAISES = ("opened", "grew", "changed", "escalated", "flapping")
#: Alerts about an event: there is nothing to recover from. The first two have no end, the others end after a
#: quarter of an hour.
EVENTS = ("schema changed", "run ended early", "flow run restarted", "flow run dropped")


@dataclass
class Raised:
    """An alert that was sent: how often it was raised, its highest severity, whether its end was sent."""

    ids: set[Any] = field(default_factory=set)
    severities: set[str] = field(default_factory=set)
    ended: set[Any] = field(default_factory=set)
    first_at: float = 0.0


def alerts_in(messages: Iterable[Message]) -> dict[str, Raised]:
    """The alerts that messages are about, as `load failed game.events`."""
    found: dict[str, Raised] = defaultdict(Raised)
    for message in messages:
        for alert in message.content["alerts"]:
            # One that was sent directly has no id, because the warehouse could not give it one.
            number = alert.get("id") or alert["since"]
            entry = found[f"{alert['name']} {alert['subject']}"]
            if message.event in _RAISES:
                entry.first_at = entry.first_at or message.at
                entry.ids.add(number)
                entry.severities.add(alert["severity"])
            if message.event == "resolved" or alert["status"] == "resolved" or alert["name"] in EVENTS:
                entry.ended.add(number)
    return found


@dataclass
class Outcome:
    """A fault that was made.

    Seconds: from making it to the message, and from its end until all was well again. `detected_rounds`: the rounds of
    the watch from making it to the message.
    """

    name: str
    what: str
    severity: str | None
    made_at: str
    detected_seconds: float | None = None
    lasted_seconds: float = 0.0
    recovered_seconds: float | None = None
    alerts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    detected_rounds: int | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.problems

    def add_alerts(self, fault: Fault, messages: list[Message]) -> None:
        """Compare what was sent with what the fault must and may raise."""
        # One that was raised by an earlier fault may end now.
        found = {alert: each for alert, each in alerts_in(messages).items() if each.ids}
        self.alerts = {alert: ", ".join(sorted(each.severities)) for alert, each in sorted(found.items())}
        for pattern in fault.must:
            matching = [alert for alert in found if fnmatchcase(alert, pattern)]
            if not matching:
                self.problems.append(f"no alert `{pattern}`")
            elif fault.severity and not any(fault.severity in found[alert].severities for alert in matching):
                self.problems.append(f"no alert `{pattern}` of severity {fault.severity}")
        for alert, each in found.items():
            if not fault.expects(alert):
                self.problems.append(f"an alert that has nothing to do with it: {alert}")
            if len(each.ids) > 1:
                self.problems.append(f"raised {len(each.ids)} times: {alert}")
            if each.ids - each.ended:
                self.problems.append(f"its end was not sent: {alert}")
        self.problems += _repeated(messages)


def _repeated(messages: list[Message]) -> list[str]:
    """Incidents whose beginning or end was sent more than once: the same message again has the same key."""
    sent: dict[tuple[Any, str], set[str]] = defaultdict(set)
    for message in messages:
        if message.event in ("opened", "resolved"):
            about = message.content.get("incident") or f"{message.alerts} {message.content['since']}"
            sent[about, message.event].add(message.key)
    return [f"{len(keys)} messages {event!r} of one incident" for (_, event), keys in sent.items() if len(keys) > 1]
