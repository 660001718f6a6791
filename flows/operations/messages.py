"""What a message says: cause, since when, who is affected, the next move, the runbook. No values of rows."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from flows.declare.route import SEVERITIES
from flows.operations.alerts import Alert
from flows.values.settings import settings
from flows.values.visible import visible

#: More names than this are counted.
_NAMED = 8
#: Alerts in a message for programs, the most severe first: receivers refuse what is too large.
_LISTED = 100
_WORDS = {
    "opened": "",
    "grew": "more: ",
    "flapping": "flapping: ",
    "changed": "changed: ",
    "acknowledged": "acknowledged: ",
    "escalated": "not acknowledged: ",
    "resolved": "resolved: ",
    "silence ended": "silence ended: ",
    "test": "test: ",
}


@dataclass(frozen=True, slots=True)
class Message:
    """A message before it is sent: `about` is the event, `facts` the same for programs."""

    about: str
    severity: str
    subject: str
    body: str
    facts: Mapping[str, Any]


def worst(alerts: Sequence[Alert]) -> str:
    """The highest severity."""
    return max((alert.severity for alert in alerts), key=SEVERITIES.index, default="info")


def title(alerts: Sequence[Alert]) -> str:
    """`load failed shop.baskets: the connection to the source failed`, or how many alerts there are of what."""
    first = lead(alerts)
    if len(alerts) == 1:
        return f"{first.about}: {first.what}"
    names = Counter(alert.name for alert in alerts).most_common()
    where = f"{first.source_system}: " if first.source_system else ""
    return f"{where}{', '.join(f'{name} ({count})' for name, count in names)}: {first.what}"


def lead(alerts: Sequence[Alert]) -> Alert:
    """The alert that says most: the most severe, then the first."""
    return min(alerts, key=lambda each: (-SEVERITIES.index(each.severity), each.alert_id))


def compose(
    about: str,
    incident_id: int | None,
    alerts: Sequence[Alert],
    *,
    readers: Sequence[str] = (),
    note: str | None = None,
    now: datetime | None = None,
) -> Message:
    """The message about an incident with these alerts. `readers` are the relations of gold that are affected."""
    first, severity = lead(alerts), worst(alerts)
    environment = settings().environment
    since = min(alert.fired_at for alert in alerts).astimezone(UTC)
    subject = f"[{environment}] {severity}: {_WORDS[about]}{title(alerts)}"
    ended = about == "resolved"
    over = f", resolved at {now or datetime.now(UTC):%H:%M} UTC" if ended else ""
    lines = [
        note,
        f"Since {since:%Y-%m-%d %H:%M} UTC{over}",
        f"Where: {_named([alert.subject for alert in alerts])}",
        *(f"What: {what}" for what in _each_once([alert.what for alert in alerts])),
        f"Affected in gold: {_named(readers)}" if readers else None,
        *([] if ended else [f"Next: {fix}" for fix in _each_once([alert.fix for alert in alerts])]),
        f"Runbook: {runbook(first)}",
        _error(first),
        f"Run: `medallion runs show {first.correlation_id}`" if first.correlation_id else None,
        f"More: `medallion alerts show {first.alert_id}`",
        None if ended else f"Acknowledge: `medallion alerts ack {first.alert_id}`",
        _link(),
    ]
    facts = {
        "version": 1,
        "event": about,
        "environment": environment,
        "incident": incident_id,
        "severity": severity,
        "title": title(alerts),
        "since": since.isoformat(),
        "note": note,
        "affected": list(readers),
        "runbook": runbook(first),
        "alerts": [
            {
                "id": alert.alert_id,
                "name": alert.name,
                "subject": alert.subject,
                "severity": alert.severity,
                "status": alert.status,
                "what": alert.what,
                "fix": alert.fix,
                "error_id": alert.error_id,
                "correlation_id": alert.correlation_id,
                "since": alert.fired_at.isoformat(),
            }
            for alert in sorted(alerts, key=lambda each: (-SEVERITIES.index(each.severity), each.alert_id))[:_LISTED]
        ],
        "more": max(0, len(alerts) - _LISTED),
    }
    # A line break in a name or an error must not make a line that looks like ours.
    body = "\n".join(visible(" ".join(line.split())) for line in lines if line)
    return Message(about, severity, visible(subject)[:250], body, facts)


def runbook(alert: Alert) -> str:
    """Where the runbook of an alert is: a page of docs/runbooks, by its name."""
    return runbook_of(alert.name)


def runbook_of(name: str) -> str:
    """The same, by the name of an alert or of a class of errors."""
    return f"{settings().docs_url.rstrip('/')}/runbooks/{name.lower().replace(' ', '-')}.md"


def _error(alert: Alert) -> str | None:
    """Its error, with the runbook of the error's class."""
    if alert.error_id is None:
        return None
    page = alert.failure_class and f", class {alert.failure_class}: {runbook_of(alert.failure_class)}"
    return f"Error: {alert.error_id}{page or ''}"


def _link() -> str | None:
    """The user interface of the Prefect server. One that listens on this machine only is no link for others."""
    url = settings().ui_url or os.environ.get("PREFECT_UI_URL", "")
    host = urlsplit(url).hostname or ""
    return None if not host or host in ("localhost", "::1") or host.startswith("127.") else f"Prefect: {url}"


def _named(names: Sequence[str]) -> str:
    told = list(dict.fromkeys(names))
    more = f" and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    return ", ".join(told[:_NAMED]) + more


def _each_once(texts: Sequence[str]) -> list[str]:
    told = [text for text, _ in Counter(texts).most_common()]
    return [*told[:3], *([f"and {len(told) - 3} more"] if len(told) > 3 else [])]
