"""The screens of `medallion decide`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from flows.observe import look
from flows.state.decisions import Decision
from flows.values.visible import visible

_STYLES = {"open": "bold red", "accepted": "green", "refused": "magenta"}


def is_open(decision: Decision) -> bool:
    """Whether somebody may still answer."""
    return decision.status == "open" and decision.expires_at > datetime.now(UTC)


def _status(decision: Decision) -> str:
    return "expired" if decision.status == "open" and not is_open(decision) else decision.status


def list_table(found: Sequence[Decision]) -> Table | Text:
    """Questions, the oldest first."""
    if not found:
        return Text("no decision is open", style="green")
    count = sum(map(is_open, found))
    table = look.grid(
        f"{count} open {'decision' if count == 1 else 'decisions'}", ("id", "status", "about", "what", "until")
    )
    table.show_lines = True
    for one in found:
        status = _status(one)
        by = f"\nby {one.answered_by}" if one.status in ("accepted", "refused") else ""
        until = f"{one.expires_at:%m-%d %H:%M} UTC" if is_open(one) else ("used" if one.used_at else "")
        table.add_row(
            str(one.decision_id),
            Text.assemble((status, _STYLES.get(status, "dim")), visible(by, lines=True)),
            f"{visible(one.subject)}\n{one.kind}",
            one.what,
            until,
        )
    return table


def panel(decision: Decision, readers: Sequence[str]) -> Panel:
    """A question in full."""
    one, text = decision, Text()
    text.append(f"{one.what}\n", style="bold")
    shown = {**one.plan["counts"], **one.plan["exact"]}
    rows = [
        ("about", f"{one.subject}: {one.kind}"),
        *((f"  {visible(name)}", _value(value)) for name, value in shown.items()),
        ("plan", one.plan_digest),
        ("affected", ", ".join(readers)),
        ("asked", f"{one.asked_at:%Y-%m-%d %H:%M} UTC, requested by {visible(one.requested_by)}"),
        ("status", _status(one)),
        ("until", f"{one.expires_at:%Y-%m-%d %H:%M} UTC; without an answer it is refused" if is_open(one) else ""),
        ("needs", "a second person: who requested it may not accept it" if one.two_persons else ""),
    ]
    if one.answered_at is not None:
        rows += [
            (
                "answer",
                f"{one.answered_at:%Y-%m-%d %H:%M} UTC, {visible(str(one.answered_by))} by {one.answered_through}",
            ),
            ("reason", visible(str(one.reason), lines=True)),
            ("used", f"{one.used_at:%Y-%m-%d %H:%M} UTC, run {one.used_by_run}" if one.used_at else "not yet"),
        ]
    if is_open(one):
        rows.append(
            ("accept", f'medallion decide answer {one.decision_id} accept --plan {one.plan_digest} --reason "…"')
        )
        rows.append(("refuse", f'medallion decide answer {one.decision_id} refuse --reason "…"'))
    for label, value in rows:
        if value:
            text.append(f"{label:>14}  ", style="dim")
            text.append(f"{value}\n")
    text.rstrip()
    return Panel(text, title=f"decision {one.decision_id}", title_align="left", border_style="dim")


def _value(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def answered_text(decision: Decision) -> str:
    """What the answer means."""
    next_run = "the next run goes on" if decision.status == "accepted" else "the next run is refused"
    until = f", if it begins before {decision.expires_at:%Y-%m-%d %H:%M} UTC" if decision.status == "accepted" else ""
    return f"decision {decision.decision_id}: {visible(decision.outcome)}; {next_run}{until}"


def closed_text(decision: Decision) -> str:
    """Why an answer does not count."""
    when = f" at {decision.answered_at:%Y-%m-%d %H:%M} UTC" if decision.answered_at else ""
    why = {
        "void": "its plan has changed, so another question was asked",
        "expired": "nobody answered in time",
        "not needed": "a later run had nothing to ask",
    }.get(decision.status, f"it was {visible(decision.outcome)}{when}")
    return f"decision {decision.decision_id} is closed: {why}"


def as_values(decision: Decision) -> dict[str, Any]:
    """For JSON."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(decision).items()
    }
