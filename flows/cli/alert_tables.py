"""The screens of `medallion alerts`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from flows.observe import look
from flows.operations.alerts import Alert, Sent, Transition
from flows.operations.messages import runbook, runbook_of
from flows.operations.silences import Silence
from flows.values.visible import visible

_STYLES = {"critical": "bold white on red", "error": "bold red", "warning": "yellow", "info": "dim"}
_STATUS = {"firing": "bold red", "acknowledged": "yellow", "silenced": "dim", "resolved": "green"}


def list_table(open_now: Sequence[Alert], ended: Sequence[Alert]) -> Table | Text:
    """Open alerts, and ended ones below them."""
    if not open_now and not ended:
        return Text("no open alerts", style="green")
    # Two lines a row, so that names of tables and texts can be read on a narrow terminal.
    table = look.grid(
        f"{len(open_now)} open alert{'' if len(open_now) == 1 else 's'}",
        ("id", "severity", "alert", "since", "what", "incident"),
    )
    table.show_lines = True
    now = datetime.now(UTC)
    for alert in [*open_now, *ended]:
        table.add_row(
            str(alert.alert_id),
            Text.assemble(
                (alert.severity, _STYLES[alert.severity]), "\n", (alert.status, _STATUS[alert.status]), no_wrap=True
            ),
            Text(f"{alert.name}\n{visible(alert.subject)}", overflow="fold"),
            look.ago((now - alert.fired_at).total_seconds()),
            alert.what,
            "" if alert.incident_id is None else str(alert.incident_id),
        )
    return table


def silences_table(held: Sequence[Silence]) -> Table:
    """Silences that last."""
    table = look.grid("silences", ("id", "pattern", "until", "by", "reason"))
    for each in held:
        table.add_row(
            str(each.silence_id), each.pattern, f"{each.until:%Y-%m-%d %H:%M} UTC", each.created_by, each.reason
        )
    return table


def alert_panel(alert: Alert, history: Sequence[Transition], readers: Sequence[str], sent: Sequence[Sent]) -> Panel:
    """An alert in full. What is too long for a line goes on below itself, not below its label."""
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(justify="right", style="dim", no_wrap=True)
    lines.add_column(overflow="fold")
    times = f", {alert.times} times, last {alert.last_at:%Y-%m-%d %H:%M}" if alert.times > 1 else ""
    rows = [
        ("what", alert.what),
        ("since", f"{alert.fired_at:%Y-%m-%d %H:%M} UTC{times}"),
        ("over", f"{alert.resolved_at:%Y-%m-%d %H:%M} UTC: {alert.resolution}" if alert.resolved_at else ""),
        ("affected", ", ".join(readers)),
        ("next", "" if alert.resolved_at else alert.fix),
        ("runbook", runbook(alert)),
        ("error", f"{alert.error_id} in ops.errors" if alert.error_id else ""),
        ("class", f"{alert.failure_class}: {runbook_of(alert.failure_class)}" if alert.failure_class else ""),
        ("run", f"medallion runs show {alert.correlation_id}" if alert.correlation_id else ""),
        ("incident", "" if alert.incident_id is None else str(alert.incident_id)),
    ]
    for label, value in rows:
        if value:
            lines.add_row(label, Text(visible(value, lines=True)))
    for each in history:
        by = "".join([f" by {each.by_whom}" if each.by_whom else "", f": {each.note}" if each.note else ""])
        lines.add_row(f"{each.happened_at:%H:%M:%S}", Text(f"{each.transition}{visible(by)}"))
    for message in sent:
        lines.add_row(
            f"{message.written_at:%H:%M:%S}", Text(f"message {message.about!r} to {message.channel}: {message.outcome}")
        )
    heading = (
        f"{alert.alert_id} · {alert.severity} · {alert.status}{', flapping' if alert.flapping else ''} · {alert.about}"
    )
    return Panel(lines, title=visible(heading), title_align="left", border_style=_STATUS[alert.status].split()[-1])


def as_values(alert: Alert) -> Mapping[str, Any]:
    """An alert as JSON has it."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(alert).items()
    } | {"runbook": runbook(alert)}
