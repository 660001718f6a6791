"""The screens of `medallion tune`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from flows.cli.terminal import console
from flows.observe.look import ago, grid
from flows.operations.tuning.measuring import Figures, on_common_weekdays

if TYPE_CHECKING:
    from flows.operations.tuning.advise import Advice
    from flows.operations.tuning.recommendation import Recommendation
    from flows.state.tunings import Tuning

#: On the screen; `--json` has all.
_LINES, _IN_FULL = 30, 8
_STYLE = {"helped": "green", "worse": "bold red", "no difference": "yellow", "reverted": "dim", "accepted": "yellow"}


def print_advice(found: Advice) -> None:
    """Bottlenecks, recommendations in short and then in full, and sources that did not answer."""
    console.print(_findings(found))
    if found.recommendations:
        table = grid(
            "recommendations, most gain for the effort first",
            ("id", "gain a day", "effort", "confidence", "what"),
            ("gain a day",),
        )
        for each in found.recommendations:
            table.add_row(each.id, _gain(each), each.effort, f"{each.confidence} ({each.runs})", each.what)
        console.print(table)
        for each in found.recommendations[:_IN_FULL]:
            print_recommendation(each)
        console.print(
            "`medallion tune apply ID --dry-run` shows one in full; without it, it is applied or noted as accepted",
            style="dim",
            markup=False,
        )
    else:
        console.print("no recommendations", style="green")
    for problem in found.unasked:
        console.print(f"not asked: {problem}; what rests on its catalogue is missing", style="yellow", markup=False)


def _findings(found: Advice) -> Table | Text:
    if not found.findings:
        return Text("no loads or builds in this period, or none that take long", style="green")
    title = f"bottlenecks, {found.since:%Y-%m-%d} to {found.until:%Y-%m-%d}"
    table = grid(title, ("table or model", "bottleneck", "time a day", "figures", "runs"), ("time a day", "runs"))
    for each in found.findings[:_LINES]:
        style = "dim" if each.bottleneck == "learning" else ""
        a_day = ago(each.seconds_a_day) if each.seconds_a_day >= 1 else ""
        table.add_row(each.subject, each.bottleneck, a_day, each.figures, f"{each.runs:,}", style=style)
    if others := found.findings[_LINES:]:
        table.add_row(f"{len(others)} others", "", "", "--json shows all", "", style="dim")
    return table


def print_recommendation(each: Recommendation) -> None:
    """All of it: the change as it would be made, and what it rests on."""
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column(overflow="fold")
    for name, text in (
        ("what", each.what),
        ("gain", f"{_gain(each)} a day: {each.how}"),
        ("evidence", f"{each.basis} ({each.runs} runs, {each.confidence})"),
        ("effort", each.effort),
        ("risk", each.risk),
        ("applied by", _BY[each.by]),
        ("compared by", each.measure),
    ):
        lines.add_row(name, Text(text))
    lines.add_row("change", Text(each.change))
    console.print(Panel(lines, title=Text(each.id), title_align="left", border_style="dim"))


_BY = {
    "setting": "`medallion tune apply`, for the loads of this table",
    "warehouse": "`medallion tune apply`, in the warehouse",
    "source": "the owner of the source, or `medallion tune apply --owner-url-in VARIABLE`",
    "declaration": "an edit of this file, reviewed and deployed as any other",
}


def _gain(each: Recommendation) -> str:
    return f"{each.gain:,.1f} s" if each.gain < 60 else ago(each.gain)


def report_table(found: Sequence[Tuning]) -> Table | Text:
    """Changes, the newest first."""
    if not found:
        return Text("no changes were applied; `medallion tune` recommends some", style="dim")
    columns = ("change", "recommendation", "since", "measure", "before", "after", "loads", "result")
    table = grid("changes", columns, ("change", "before", "after", "loads"))
    for each in found:
        before, after = _figures(each.before, each.measure), _figures(each.after or {}, each.measure)
        then, now = on_common_weekdays(before, after)
        result = Text(each.state, style=_STYLE.get(each.state, ""))
        if each.revert_reason:
            result.append(f" by {each.reverted_by}: {each.revert_reason}", style="dim")
        table.add_row(
            str(each.tuning_id),
            each.recommendation,
            "" if each.applied_at is None else f"{each.applied_at:%Y-%m-%d %H:%M}",
            each.measure,
            f"{then:,.1f}" if before.runs else "",
            f"{now:,.1f}" if after.runs else "",
            f"{before.runs} / {after.runs}",
            result,
        )
    return table


def _figures(of: Mapping[str, Any], measure: str) -> Figures:
    return Figures(**of[measure]) if measure in of else Figures()


def advice_values(found: Advice) -> dict[str, object]:
    """For programs: times in seconds and ISO 8601."""
    return {
        "since": found.since.isoformat(),
        "until": found.until.isoformat(),
        "findings": [asdict(each) for each in found.findings],
        "recommendations": [
            {name: value for name, value in asdict(each).items() if name != "probe"}
            | {"id": each.id, "confidence": each.confidence}
            for each in found.recommendations
        ],
        "not_asked": list(found.unasked),
    }


def report_values(each: Tuning) -> dict[str, object]:
    """The same of a change."""
    values = asdict(each) | {"state": each.state}
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in values.items()}
