"""The screens of `medallion runs`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from flows.observe import look
from flows.values.visible import visible

#: What each part shows, by column and heading; empty columns are left out.
_PARTS: Mapping[str, Mapping[str, str]] = {
    "runs": {
        "run_id": "run", "pipeline": "pipeline", "scope": "scope", "status": "status", "started_at": "started (UTC)",
        "seconds": "took", "error_id": "error", "ended": "ended",
    },
    "loads": {
        "batch_id": "batch", "table": "table", "strategy": "strategy", "status": "status", "rows_read": "read",
        "rows_quarantined": "quarantined", "reconciliation": "result", "seconds": "took", "error_id": "error",
    },
    "errors": {"error_id": "error", "location": "where", "what": "what", "fix": "fix"},
    "checks": {"gate": "gate", "dataset": "table", "check_name": "check", "outcome": "outcome", "message": "message"},
    "comparisons": {"table": "table", "result": "result"},
    "alerts": {"alert_id": "alert", "severity": "severity", "status": "status", "name": "name", "what": "what"},
    "sessions": {"pid": "pid", "role": "role", "application": "session", "state": "state"},
}  # fmt: skip
_TITLES = {"checks": "checks that did not pass", "sessions": "open sessions in the warehouse"}
_NUMBERS = ("batch_id", "rows_read", "rows_quarantined", "pid", "run_id", "alert_id")


def ids_table(found: Sequence[Mapping[str, Any]]) -> Table | Text:
    """The last correlation ids."""
    if not found:
        return Text("nothing has run yet", style="dim")
    table = look.grid("runs", ("correlation id", "started (UTC)", "took", "result", "what"))
    for each in found:
        result = Text("failed", style="bold red") if each["failed"] else Text("done", style="green")
        table.add_row(
            each["correlation_id"], _shown(each["started_at"]), look.ago(each["seconds"]), result, visible(each["runs"])
        )
    return table


def parts_of(identifier: str, parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Table | Text]:
    """Each part that has rows, then where else the id is found."""
    for name, columns in _PARTS.items():
        rows = [{**row, "table": _table(row)} for row in parts.get(name, ())]
        used = [column for column in columns if any(row.get(column) not in (None, "") for row in rows)]
        if not rows:
            continue
        numbers = [columns[column] for column in used if column in _NUMBERS]
        table = look.grid(_TITLES.get(name, name), [columns[column] for column in used], numbers)
        for row in rows:
            table.add_row(*(_cell(column, row.get(column)) for column in used))
        yield table
    yield Text(elsewhere(identifier), style="dim")


def elsewhere(identifier: str) -> str:
    """The forms in which other systems have the id."""
    trace = hashlib.sha256(identifier.encode()).hexdigest()[:32]
    return (
        f"correlation id {identifier}; also in\n"
        f"  log lines       correlation_id = {identifier}\n"
        f"  Prefect         flow runs and task runs with the tag correlation:{identifier}\n"
        f"  PostgreSQL      sessions named `… {identifier}`; statements with correlation_id='{identifier}'\n"
        f"  traces          trace {trace}, unless the caller set TRACEPARENT"
    )


def _table(row: Mapping[str, Any]) -> str:
    return f"{row['source_system']}.{row['table_name']}" if row.get("source_system") else ""


def _cell(column: str, value: Any) -> str | Text:
    if column in ("status", "outcome", "result"):
        return look.styled(value)
    if column == "seconds":
        return look.ago(value)
    if column.startswith("rows_"):
        return f"{value:,}" if value is not None else ""
    return _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return "" if value is None else visible(str(value))
