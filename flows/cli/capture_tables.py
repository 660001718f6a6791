"""Tables of `medallion capture`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from flows.observe.look import grid

if TYPE_CHECKING:
    from flows.kinds.answers import CaptureStatus, Step, TriggerStatus

_MB = 1e6


def steps_table(steps: Iterable[Step]) -> Table:
    """`medallion capture setup` and `drop`: statements at the source."""
    table = grid("At the source", ["statement", "why", "result"])
    for step in steps:
        result = Text("done", style="green")
        if not step.done:
            said = f"{step.error}; run it as {step.who}" if step.error else f"to be run by {step.who}"
            result = Text(said, style="bold red" if step.error else "bold")
        table.add_row(Text(step.sql), step.why, result)
    return table


def status_parts(status: CaptureStatus | TriggerStatus) -> list[Table]:
    """`medallion capture status`: the slot, then the tables; or the tables with triggers."""
    from flows.kinds.answers import TriggerStatus

    return _of_triggers(status) if isinstance(status, TriggerStatus) else _of_slot(status)


def _of_slot(status: CaptureStatus) -> list[Table]:
    slot = grid(f"Capture of {status.source}", ["what", "is"])
    slot.add_row("slot", Text(*_slot(status)))
    slot.add_row("publication", status.publication or "missing")
    slot.add_row("retained WAL", f"{status.retained / _MB:,.1f} MB of {status.limit / _MB:,.0f} MB (max_retained)")
    unlimited = status.kept_at_most == "-1"
    kept = "not limited: WAL fills the source's disk while nothing is loaded" if unlimited else status.kept_at_most
    slot.add_row("max_slot_wal_keep_size", Text(kept, style="bold" if unlimited else ""))
    if status.problem:
        slot.add_row("problem", Text(f"{status.problem}: medallion capture setup {status.source}", style="bold red"))
    numbers = ["behind (MB)", "inserts", "updates", "deletes", "truncates", "failed loads"]
    tables = grid("Tables", ["table", "position", *numbers, "last change (UTC)"], numbers)
    for one in status.tables:
        tables.add_row(
            f"{status.source}.{one.table}",
            one.position or "no snapshot yet",
            "" if one.behind is None else f"{one.behind / _MB:,.1f}",
            *(f"{n:,}" for n in (one.counts.inserts, one.counts.updates, one.counts.deletes, one.counts.truncates)),
            f"{one.counts.failed:,}",
            "" if one.counts.committed_at is None else f"{one.counts.committed_at:%Y-%m-%d %H:%M:%S}",
        )
    return [slot, tables]


def _of_triggers(status: TriggerStatus) -> list[Table]:
    numbers = ["waiting rows", "size (MB)", "oldest (s)"]
    title = f"Capture of {status.source} by triggers, up to {status.limit / _MB:,.0f} MB per table (max_waiting)"
    tables = grid(title, ["table", *numbers, "state"], numbers)
    for one in status.tables:
        state = Text(one.problem or "ready", style="bold red" if one.problem else "")
        oldest = "" if one.oldest is None else f"{one.oldest:,.0f}"
        tables.add_row(f"{status.source}.{one.table}", f"{one.rows:,}", f"{one.size / _MB:,.1f}", oldest, state)
    return [tables]


def _slot(status: CaptureStatus) -> tuple[str, str]:
    name = status.slot
    if not status.has_slot:
        return f"{name}: missing; the next load creates it, and compares all tables", "bold red"
    if status.lost:
        return (
            f"{name}: lost its WAL ({status.lost}); the next load creates it again, and compares all tables",
            "bold red",
        )
    return f"{name}: {'being read' if status.is_read else 'ready'}", ""
