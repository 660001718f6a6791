"""Screens of `medallion quarantine`. Values of rows are in them only if they were revealed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from flows.observe.look import grid, number

if TYPE_CHECKING:
    from flows.quality.entries import Count
    from flows.quality.looks import Look
    from flows.verbs.fix import Fixed
    from flows.verbs.replay import Replayed

_SILVER = "silver_quarantine."
_IDS_SHOWN = 5
#: Why a row stays in quarantine, where no rule says it.
_WORDS = {
    "twice": "another chosen row has its key",
    "newer": "raw has a newer version: closed",
    "deleted": "deleted at the source since: closed",
    "key_taken": "raw has another row of this key",
    "key_not_unique": "several rows of the source have its key",
}


def counts_table(counts: Sequence[Count], *, resolved: bool) -> Table | Text:
    """`medallion quarantine list`."""
    if not counts:
        return Text("no row in quarantine is " + ("resolved" if resolved else "open"))
    names = ["table", "rule", *(["resolution"] if resolved else []), "rows", "fixed", "first", "last"]
    table = grid("Quarantine: resolved rows" if resolved else "Quarantine: open rows", names, ["rows", "fixed"])
    for one in counts:
        state = [one.resolution or ""] if resolved else []
        times = [_moment(one.first), _moment(one.last)]
        table.add_row(one.table, one.rule, *state, number(one.rows), number(one.fixed, dim_zero=True), *times)
    if any(one.table.startswith(_SILVER) for one in counts):
        table.caption = "rows of silver_quarantine are fixed at the source or in the model, then built again"
        table.caption_justify = "left"
    return table


def look_parts(looks: Sequence[Look], *, revealed: bool) -> list[Table | Text]:
    """`medallion quarantine show`."""
    parts: list[Table | Text] = []
    for look in looks:
        name = f"{look.place}, rule {look.rule}, {_moment(look.when)}"
        title = name if look.entry is None else f"Row {look.entry.number}: {name}"
        names = ["column", "type", "length", "read by the rule", "value"]
        table = grid(title, names, ["length"])
        for column in look.columns:
            reads = "yes" if column.name in look.read_by_rule else ""
            value = (column.value or "") if revealed else "" if column.kind == "null" else "***"
            table.add_row(column.name, column.kind, number(column.length), reads, value)
        parts.append(table)
        parts += [Text(line, "dim") for line in _facts(look)]
    if not looks:
        return [Text("no open row in quarantine")]
    if not revealed:
        parts.append(Text('values are masked: --reveal --reason "…" shows them, and is recorded', "dim"))
    return parts


def _facts(look: Look) -> list[str]:
    if look.entry is None:
        return ["fixed at the source or in the model, then built again"]
    lines = [f"load {look.entry.batch_id}"]
    if look.entry.resolved_at is not None:
        by = f" by {look.entry.resolved_by}" if look.entry.resolved_by else ""
        why = f": {look.entry.reason}" if look.entry.reason else ""
        lines.append(f"{look.entry.resolution} {_moment(look.entry.resolved_at)}{by}{why}")
    for fix in look.fixes:
        state = "" if fix.is_loaded else ", not loaded yet"
        lines.append(f"fix of {', '.join(fix.changed)} {_moment(fix.fixed_at)} by {fix.fixed_by}: {fix.reason}{state}")
    return lines


def fixed_text(done: Fixed) -> Text:
    """`medallion quarantine fix`."""
    said = f"fix of {', '.join(done.changed)} stored beside row {done.entry.number} of {done.entry.table}"
    if done.verdict is None:
        return Text(f"{said}; `medallion quarantine replay {done.entry.number}` loads it", "green")
    return Text(f"{said}, but it would be refused again: {_why(done.verdict)}", "yellow")


def replay_table(done: Sequence[Replayed], *, planned: bool) -> Table | Text:
    """`medallion quarantine replay`, and its plan."""
    if not any(table.outcomes for table in done):
        return Text("no row to load again")
    title = "Replay: plan" if planned else "Replay"
    table = grid(title, ["table", "broke", "rows", "now", "ids"], ["rows"])
    for one in (outcome for table_ in done for outcome in table_.outcomes):
        passed = Text("would be loaded" if planned else "loaded", "green")
        now = passed if one.verdict is None else Text(f"refused again: {_why(one.verdict)}", "yellow")
        more = ", …" if one.rows > _IDS_SHOWN else ""
        table.add_row(one.table, one.rule, number(one.rows), now, ", ".join(map(str, one.ids)) + more)
    return table


def _why(verdict: str) -> str:
    if verdict.startswith("value_fits_type:"):
        return f"the value of column {verdict.partition(':')[2]} is not one of its type in raw"
    return _WORDS.get(verdict, verdict)


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
