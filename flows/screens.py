"""What the terminal shows: tables and panels made of plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.json import JSON
from rich.panel import Panel
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

from flows.spec.errors import MedallionError
from flows.spec.partition import Partition
from flows.spec.visible import visible

if TYPE_CHECKING:
    from flows.erase import Erasure
    from flows.loads.planning import PlanLine
    from flows.loads.preview import Preview
    from flows.retain import Line
    from flows.state.overview import Overview
    from infra.local.stack import ServiceStatus, Stack

_STATUS_STYLE = {
    "done": "green",
    "published": "green",
    "running": "yellow",
    "equal": "green",
    "different": "bold red",
    "missing in raw": "bold red",
    "surplus in raw": "yellow",
    "failed": "bold red",
    "refused": "bold magenta",
    "rescheduled": "yellow",
    "open": "bold red",
    "half-open": "yellow",
    "closed": "green",
    "not applied": "bold magenta",
    "starting": "yellow",
    "stopped": "dim",
}


# Into a file or a pipe there is no width to ask for; the widest table of ours fits this.
_WIDTH_WITHOUT_TERMINAL = 150
# Below this width, tables leave out what can be looked up.
_NARROW = 110


def open_console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, and wide enough for our tables where there is none."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=_WIDTH_WITHOUT_TERMINAL)


class _Grid(Table):
    """A table whose cells are text: a column called `[bold]` or by an escape sequence is shown as it is called."""

    def add_row(self, *cells: RenderableType | None, style: StyleType | None = None, end_section: bool = False) -> None:
        """As its base, with nothing in a text that would be obeyed."""
        shown = [Text(visible(cell, lines=True)) if isinstance(cell, str) else cell for cell in cells]
        super().add_row(*shown, style=style, end_section=end_section)


def grid(title: str, columns: Sequence[str], numeric: Iterable[str] = ()) -> Table:
    """An empty table in the house's look; numeric columns are read by their right edge."""
    table = _Grid(title=title, title_justify="left", title_style="bold", header_style="dim", border_style="dim")
    right = set(numeric)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def release_table(facts: Mapping[str, Any]) -> Table:
    """A release: the tables of gold that it changed for readers."""
    changed = {name: change for name, change in facts["changes"].items() if not change["same"]}
    title = f"Release {facts['release']}: {len(changed)} of {len(facts['changes'])} tables of gold changed"
    table = grid(
        title,
        ["table", "rows before", "rows now", "keys new", "keys gone", "rows changed", "columns"],
        ["rows before", "rows now", "keys new", "keys gone", "rows changed"],
    )
    for name, change in changed.items():
        counts = [change[key] for key in ("rows_before", "rows_after", "keys_new", "keys_gone", "rows_changed")]
        columns = [
            f"{len(change[f'columns_{what}'])} {what}"
            for what in ("added", "removed", "retyped")
            if change[f"columns_{what}"]
        ]
        cells = ["" if count is None else f"{count:,}" for count in counts]
        existence = "new" if change["rows_before"] is None else "gone" if change["rows_after"] is None else "same"
        table.add_row(name, *cells, ", ".join(columns) if columns and existence == "same" else existence)
    return table


def model_table(facts: Mapping[str, Any]) -> Table:
    """A version of a model: how good it was on the weeks held out, and the weights it goes by."""
    title = f"{facts['model']} {facts['version']}: {facts['households']:,} households as of {facts['as_of']}"
    table = grid(title, ["what", "value"], ["value"])
    for name, value in facts["metrics"].items():
        table.add_row(name.replace("_", " "), f"{value:,.0f}" if name == "households" else f"{value:.3f}")
    table.add_section()
    for name, weight in sorted(facts["weights"].items(), key=lambda item: -abs(item[1])):
        table.add_row(f"weight of {name.replace('_', ' ')}", f"{weight:+.3f}")
    return table


def styled(status: str | None) -> Text:
    """A status in its colour."""
    return Text(status or "", style=_STATUS_STYLE.get(status or "", ""))


def ago(seconds: float | None) -> str:
    """`12 s`, `4 min`, `2:05 h`, `3 days`."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 86400:
        return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"
    return f"{timedelta(seconds=seconds).days} days"


def error_panel(error: MedallionError) -> Panel:
    """An error as a person reads it: what, where, the next move, whether a retry can help."""
    text = Text()
    text.append(f"{error.what}\n", style="bold")
    for label, value in (
        ("where", error.where),
        ("next", error.next_move),
        ("retry", "can help" if error.retryable else "cannot help"),
    ):
        text.append(f"{label:>6}  ", style="dim")
        text.append(f"{value}\n")
    error_id = getattr(error, "error_id", None)
    if error_id:
        text.append(f"{'id':>6}  ", style="dim")
        text.append(f"{error_id} in ops.errors\n")
    text.rstrip()
    return Panel(text, title=type(error).__name__, title_align="left", border_style="red", expand=False)


def addresses(stack: Stack) -> Group:
    """Where to look, and how to get in; passwords stay in the file."""
    table = grid("Where to look", ["what", "address"])
    table.add_row("Prefect: runs, logs, artifacts", stack.prefect.ui_url)
    table.add_row("PostgreSQL: databases warehouse and shop", f"127.0.0.1:{stack.postgres.port}")
    table.add_row("gold, as a reader", 'psql "$(medallion url)"')
    if stack.commerce is not None:
        table.add_row("commerce API", stack.commerce.url)
    return Group(table)


def service_table(services: Iterable[ServiceStatus]) -> Table:
    """The embedded stack's services."""
    table = grid("Services", ["service", "state", "address", "pid", "log"], ["pid"])
    for service in services:
        table.add_row(
            service.name,
            styled(service.state),
            service.address or "",
            str(service.pid or ""),
            str(service.log or ""),
        )
    return table


def plan_table(lines: Iterable[PlanLine]) -> Table:
    """`medallion plan`."""
    table = grid("Plan", ["table", "due", "rows", "path", "from cursor", "why"], ["rows"])
    for line in lines:
        plan = line.plan
        why = line.error.what if line.error else plan.reason if plan else ""
        if plan and plan.warning:
            why = f"{why}; {plan.warning}"
        table.add_row(
            f"{line.source}.{line.table}",
            Text(line.due, style="bold red" if line.error else "dim" if line.due == "nothing waits" else "bold"),
            "" if line.rows is None else f"{line.rows:,}",
            plan.path if plan else "",
            (plan.lower or "the beginning") if plan else "",
            why,
        )
    return table


def preview_parts(name: str, preview: Preview) -> list[Table | Text | JSON]:
    """`medallion preview`: what was found, each field, the first records."""
    facts = grid(f"Preview of {name}", ["what", "declared", "the answer suggests"])
    found = preview.detected
    facts.add_row(
        "records on the first page", str(preview.on_page), f"{len(found.found)} at {found.records or 'the root'!r}"
    )
    facts.add_row(
        "total", "" if preview.total is None else f"{preview.total:,}", f"at {found.total!r}" if found.total else ""
    )
    facts.add_row("pagination", preview.declared, found.pagination)
    facts.add_row("key", "", f"{found.key} ({found.key_type})")
    facts.add_row("cursor", "", found.cursor_field or "")
    fields = grid("Fields", ["field", "kinds"])
    for field, kinds in preview.fields.items():
        fields.add_row(field, kinds)
    return [facts, fields, *(JSON(record.decode("utf-8", errors="replace")) for record in preview.records)]


_COUNTS = (
    ("read", "rows_read"),
    ("new", "rows_inserted"),
    ("changed", "rows_updated"),
    ("same", "rows_unchanged"),
    ("deleted", "rows_deleted"),
    ("quarantined", "rows_quarantined"),
)


def loads_table(loads: Sequence[dict[str, Any]], title: str, width: int) -> Table:
    """What became of each table of a run. A narrow terminal is shown what changed, not what stayed."""
    shown = [(label, column) for label, column in _COUNTS if width >= _NARROW or column != "rows_unchanged"]
    totals = [("source", "source_rows"), ("raw", "raw_rows")] if width >= _NARROW else []
    numeric = [label for label, _ in [*shown, *totals]] + ["s"]
    table = grid(title, ["table", "path", *numeric[:-1], "counts", "s"], numeric)
    for load in loads:
        counts = [_number(load[column], dim_zero=True) for _, column in shown]
        verdict = load["reconciled"] if load["status"] == "published" else load["status"]
        table.add_row(
            f"{load['source_system']}.{load['table_name']}",
            load["path"],
            *counts,
            *[_number(load[column]) for _, column in totals],
            styled(verdict),
            f"{load['seconds']:.1f}" if load["seconds"] is not None else "",
        )
    return table


def partitions_table(counted: Iterable[tuple[Partition, int, int]]) -> Table:
    """`medallion backfill --plan`: what each partition holds at both ends."""
    table = grid("Partitions", ["days", "rows at the source", "rows in raw"], ["rows at the source", "rows in raw"])
    for partition, at_source, in_raw in counted:
        table.add_row(str(partition), f"{at_source:,}", f"{in_raw:,}")
    return table


_COMPARED = ("source_rows", "raw_rows", "missing", "surplus", "different", "quarantined", "waiting", "repaired")


def reconciliations_table(results: Iterable[dict[str, Any]]) -> Table:
    """`medallion reconcile`: what each end holds, and where they differ."""
    labels = [name.removesuffix("_rows") for name in _COMPARED]
    table = grid("Both ends", ["table", "verdict", *labels, "s", "note"], [*labels, "s"])
    for result in results:
        table.add_row(
            f"{result['source_system']}.{result['table_name']}",
            styled(result["verdict"]),
            *[_number(result[name], dim_zero=not name.endswith("_rows")) for name in _COMPARED],
            f"{result['seconds']:.1f}",
            result["note"] or "",
        )
    return table


def changed_rows(loads: Iterable[dict[str, Any]]) -> int:
    """Rows of raw that a run made different."""
    return sum((load[column] or 0) for load in loads for column in ("rows_inserted", "rows_updated", "rows_deleted"))


def _number(value: int | None, *, dim_zero: bool = False) -> Text:
    return Text("" if value is None else f"{value:,}", style="dim" if dim_zero and not value else "")


def status_tables(overview: Overview) -> list[Table]:
    """`medallion status`: runs, tables with cursor and lag, quarantine, schema changes, errors."""
    runs = grid("Last runs", ["run", "pipeline", "status", "started (UTC)", "took"], ["run"])
    for run in overview.runs:
        name = f"{run['pipeline']} {run['scope']}".strip()
        runs.add_row(
            str(run["run_id"]),
            name,
            styled(run["status"]),
            f"{run['started_at']:%Y-%m-%d %H:%M:%S}",
            ago(run["seconds"]),
        )
    tables = grid(
        "Tables",
        ["table", "last load", "lag", "cursor", "rows in raw", "counts", "quarantined"],
        ["lag", "rows in raw", "quarantined"],
    )
    for row in overview.tables:
        tables.add_row(
            f"{row['source_system']}.{row['table_name']}",
            styled(row["status"]),
            ago(row["lag_seconds"]),
            row["cursor_value"] or "",
            _number(row["raw_rows"]),
            styled(row["reconciled"]),
            _number(row["quarantined"], dim_zero=True),
        )
    shown = [runs, tables]
    if overview.quarantine:
        quarantine = grid("Quarantine", ["table", "rule", "rows", "since (UTC)"], ["rows"])
        for row in overview.quarantine:
            quarantine.add_row(
                f"{row['source_system']}.{row['table_name']}",
                row["rule"],
                f"{row['rows']:,}",
                f"{row['since']:%Y-%m-%d %H:%M:%S}",
            )
        shown.append(quarantine)
    if overview.circuits:
        circuits = grid("Circuits", ["source", "state", "failures", "left alone until (UTC)", "why"], ["failures"])
        for row in overview.circuits:
            until = row["retry_at"]
            circuits.add_row(
                row["source_system"],
                styled(row["state"]),
                str(row["failures"]),
                f"{until:%Y-%m-%d %H:%M:%S}" if until else "",
                row["what"] or "",
            )
        shown.append(circuits)
    if overview.changes:
        changes = grid("Schema changes", ["when (UTC)", "table", "column", "change", "type", "in raw"])
        for row in overview.changes:
            changes.add_row(
                f"{row['changed_at']:%Y-%m-%d %H:%M:%S}",
                f"{row['source_system']}.{row['table_name']}",
                row["column_name"],
                row["change"],
                " → ".join(kind for kind in (row["old_type"], row["new_type"]) if kind),
                styled("done" if row["applied"] else "not applied"),
            )
        shown.append(changes)
    if overview.errors:
        errors = grid("Errors", ["id", "when (UTC)", "class", "where", "what", "next move"])
        for row in overview.errors:
            errors.add_row(
                row["error_id"],
                f"{row['occurred_at']:%Y-%m-%d %H:%M:%S}",
                row["failure_class"],
                row["location"],
                row["what"],
                row["next_move"],
            )
        shown.append(errors)
    return shown


def erasure_parts(subject: str, done: Erasure, *, planned: bool) -> list[Table | Text]:
    """A person's rows by table: as found, as deleted, and what is left. No value of any row."""
    lines = done.found if planned else done.deleted
    table = grid(
        f"Rows of the {subject}", ["table", "to delete" if planned else "deleted"], numeric=["to delete", "deleted"]
    )
    for line in sorted(lines, key=lambda line: line.place.told):
        table.add_row(line.place.told, _number(line.rows))
    parts: list[Table | Text] = [table if lines else Text("no table holds a row of that key")]
    if planned:
        return [*parts, Text("nothing was touched: add --erase to delete")]
    if done.remains:
        left = grid("Still there", ["table", "column", "rows"], numeric=["rows"])
        for remains in done.remains:
            left.add_row(Text(remains.place), Text(remains.column), _number(remains.rows))
        parts.append(left)
    if done.closed:
        parts.append(
            Text(f"not looked into, because no role of ours may read them: {', '.join(done.closed)}", "yellow")
        )
    if not done.remains and not done.closed:
        parts.append(Text("looked through every column of every table: nothing is left", "green"))
    parts.append(Text("backups and the server's log files hold it until their own term is over", "dim"))
    return parts


def retention_table(lines: Sequence[Line], *, deleted: bool) -> Table | Text:
    """What is beyond its term, or was until now."""
    if not lines:
        return Text("nothing is beyond its term")
    count = "deleted" if deleted else "beyond"
    table = grid("Retention" if deleted else "Retention: a plan, --delete carries it out",
                 ["place", "kept for", "before", count, "of"], numeric=["kept for", count])  # fmt: skip
    for line in lines:
        moment = f"{line.older_than:%Y-%m-%d %H:%M}"
        table.add_row(line.place, f"{line.days:,} days", moment, _number(line.count), line.what)
    return table
