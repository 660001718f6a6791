"""Reconciliation results as a Markdown table, made of plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flows.observe.markdown import cell

_COUNTS = (
    "source_rows",
    "raw_rows",
    "missing",
    "extra",
    "different",
    "duplicate",
    "quarantined",
    "pending",
    "repaired",
)


def reconciliations_markdown(results: Iterable[Mapping[str, Any]], failures: Mapping[str, str]) -> str:
    """A line per table, differing ones first; `failures`: per table, why it was not compared."""
    lines = sorted(results, key=lambda line: (line["result"] != "different", line["source"], line["table"]))
    differing = sum(line["result"] == "different" for line in lines)
    head = f"# Reconciliation: {len(lines)} tables, {differing} different, {len(failures)} not compared\n\n"
    columns = ["table", "result", *(name.replace("_", " ") for name in _COUNTS), "seconds", "note"]
    rows = [
        [
            f"{line['source']}.{line['table']}",
            line["result"],
            *("" if line[name] is None else f"{line[name]:,}" for name in _COUNTS),
            f"{line['seconds']:.1f}",
            line["note"] or "",
        ]
        for line in lines
    ]
    rows += [[name, "not compared", *[""] * len(_COUNTS), "", what] for name, what in failures.items()]
    numeric = len(_COUNTS) + 1
    rule = ["---", "---", *["---:"] * numeric, "---"]
    return head + "".join(f"| {' | '.join(cell(value) for value in row)} |\n" for row in (columns, rule, *rows))
