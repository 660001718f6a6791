"""Tables of a deployment: its plan, the next runs, and runs that do not start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from flows.observe.look import grid

if TYPE_CHECKING:
    from deployments.deploy import Prospect
    from deployments.next_runs import NextRun
    from deployments.plan import Change
    from deployments.resource import Resource
    from deployments.stuck_runs import StuckRun

_STYLES = {
    "create": "green",
    "update": "yellow",
    "remove": "bold red",
    "kept": "cyan",
    "no longer declared": "magenta",
    "unchanged": "dim",
    "left out": "dim",
}
# Longer or nested values are named, not shown: an operator may have put a password into job variables.
_SHOWN = 48


def prospect_parts(found: Prospect, *, removing: bool) -> list[Table | Text]:
    """The plan: the server; one line per changed resource, one per kind for unchanged ones; notes."""
    record = found.record
    where = f"{found.address} ({'Prefect Cloud' if found.is_cloud else 'self-hosted'})"
    what = f"restores {record.puts_back}" if record.puts_back else f"version {record.version}"
    table = grid("Plan", ["action", "what", "name", "differs"])
    for (unchanged, kind), group in groupby(
        found.changes, key=lambda change: (change.action == "unchanged", change.resource.kind)
    ):
        changes = list(group)
        if unchanged:
            names = ", ".join(change.resource.name for change in changes)
            table.add_row(*(Text(text, style="dim") for text in ("unchanged", kind, names, "")))
            continue
        for change in changes:
            action = Text(change.action, style=_STYLES[change.action])
            table.add_row(action, Text(kind, style="dim"), change.resource.name, _differs(change))
    parts: list[Table | Text] = [
        Text.assemble((record.environment, "bold"), f" at {where}: {what}, work pool {record.pool}"),
        table,
    ]
    parts += [Text(f"note: {note}", style="yellow") for note in found.notes]
    if not removing and any(change.action == "no longer declared" for change in found.changes):
        parts.append(Text("use --remove to delete what is no longer declared"))
    if any(change.kept for change in found.changes):
        parts.append(Text("settings changed by hand are kept; deploy --overrule resets them"))
    return parts


def verdict(found: Prospect) -> str:
    """One line that counts what would be written."""
    counted: dict[str, int] = {}
    for change in found.pending:
        counted[change.action] = counted.get(change.action, 0) + 1
    return ", ".join(f"{count} to {action}" for action, count in counted.items()) or "nothing to change"


def next_runs_table(runs: Sequence[NextRun]) -> Table:
    """When each active deployment runs next, and what prevents it."""
    table = grid("Schedules", ["deployment", "schedule", "next run (UTC)", "late runs", "work pool"], ["late runs"])
    for run in runs:
        table.add_row(
            run.deployment,
            ", ".join(run.schedules),
            f"{run.at:%Y-%m-%d %H:%M:%S}" if run.at else Text("none", style="bold red"),
            Text(str(run.late), style="bold red" if run.late else "dim"),
            run.pool if run.pool_ready else Text(f"{run.pool}: no worker", style="yellow"),
        )
    return table


def stuck_runs_table(runs: Sequence[StuckRun]) -> Table:
    """Runs that do not start, and the fix; runs of one deployment with the same reason are one line."""
    table = grid("Runs that do not start", ["deployment", "state", "since (UTC)", "runs", "work pool", "fix"], ["runs"])
    grouped: dict[tuple[str, str, bool], list[StuckRun]] = {}
    for run in runs:
        grouped.setdefault((run.deployment, run.state, run.pool_ready), []).append(run)
    for (deployment, state, ready), group in grouped.items():
        first = group[0]
        table.add_row(
            deployment,
            Text(state.lower(), style="bold red"),
            f"{first.since:%Y-%m-%d %H:%M:%S}",
            str(len(group)),
            first.pool if ready else Text(f"{first.pool}: no worker", style="yellow"),
            first.fix,
        )
    return table


def _differs(change: Change) -> str:
    if change.action == "create":
        return _created(change.resource)
    parts = [_field(name, *values) for name, values in sorted(change.differs.items())]
    parts += [f"{name} {_value(held)} by hand, declared {_value(said)}" for name, (held, said) in change.kept.items()]
    if change.action == "left out":
        parts.append("Prefect Cloud only")
    if change.action == "update" and change.adopted:
        parts.append("not created by medallion: never removed")
    return "; ".join(parts)


def _created(resource: Resource) -> str:
    """The details of a new resource: its schedule and queue, or its size."""
    fields = resource.fields
    told = [
        f"{value}" + ("" if fields["active " + name.partition(" ")[2]] else ", off")
        for name, value in fields.items()
        if name.startswith("schedule ")
    ]
    told += [
        f"{name.replace('_', ' ')} {fields[name]}" for name in ("work_queue", "limit", "priority") if name in fields
    ]
    if resource.kind == "automation" and not fields["enabled"]:
        told.append("off")
    return "; ".join(told)


def _field(name: str, before: Any, after: Any) -> str:
    if isinstance(before, Mapping | list) or isinstance(after, Mapping | list):
        return name
    shown = f"{name} {_value(before)} → {_value(after)}"
    return shown if len(shown) <= _SHOWN else name


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else str(value)
