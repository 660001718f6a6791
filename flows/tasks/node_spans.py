"""The nodes of a dbt build as spans, from its run_results.json: dbt runs them in threads of its own."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.observe import tracing


def node_spans(run_results: Path) -> None:
    """A span for each node that ran, below the current one. No message of dbt: it may quote rows."""
    if not tracing.is_on() or not run_results.exists():
        return
    for result in json.loads(run_results.read_text(encoding="utf-8"))["results"]:
        began, ended = _times(result["timing"])
        if began is None or ended is None:
            continue
        kind, _, name = result["unique_id"].split(".", 2)
        facts = {
            "dbt.node.id": result["unique_id"],
            "dbt.node.status": result["status"],
            "dbt.node.rows": (result.get("adapter_response") or {}).get("rows_affected"),
        }
        failed = result["status"] if result["status"] in ("error", "fail") else None
        tracing.finished(f"dbt {kind} {name}", began, ended, facts, failed)


def _times(timing: list[dict[str, Any]]) -> tuple[int | None, int | None]:
    """Begin and end in nanoseconds since 1970; nodes that were skipped have neither."""
    steps = [step for step in timing if step.get("started_at") and step.get("completed_at")]
    if not steps:
        return None, None
    return _nanoseconds(steps[0]["started_at"]), _nanoseconds(steps[-1]["completed_at"])


def _nanoseconds(time: str) -> int:
    return int(datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp() * 1e9)
