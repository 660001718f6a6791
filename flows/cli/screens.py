"""Tables of runs, releases and comparisons, made of plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from flows.declare.partition import Partition
from flows.observe.look import _NARROW, grid, number, styled
from flows.values.plan import LoadCounts
from flows.values.result_words import in_words
from flows.values.visible import visible


def release_table(facts: Mapping[str, Any]) -> Table:
    """A release: the gold tables that it changed."""
    changed = {name: change for name, change in facts["changes"].items() if not change["same"]}
    title = f"Release {facts['release']}: {len(changed)} of {len(facts['changes'])} gold tables changed"
    table = grid(
        title,
        ["table", "rows before", "rows after", "keys added", "keys removed", "rows changed", "columns"],
        ["rows before", "rows after", "keys added", "keys removed", "rows changed"],
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
    """A model version: its metrics on the held-out weeks, and its weights."""
    title = f"{facts['model']} {facts['version']}: {facts['households']:,} households as of {facts['as_of']}"
    table = grid(title, ["what", "value"], ["value"])
    for name, value in facts["metrics"].items():
        table.add_row(name.replace("_", " "), f"{value:,.0f}" if name == "households" else f"{value:.3f}")
    table.add_section()
    for name, weight in sorted(facts["weights"].items(), key=lambda item: -abs(item[1])):
        table.add_row(f"weight of {name.replace('_', ' ')}", f"{weight:+.3f}")
    return table


_WORDED = (
    "source_rows",
    "raw_rows",
    "quarantine_rows",
    "reconciliation",
    "missing_rows",
    "extra_rows",
    "duplicate_rows",
    "rows_deduplicated",
    "skipped",
)
_COUNTS = (
    ("read", "rows_read"),
    ("inserted", "rows_inserted"),
    ("updated", "rows_updated"),
    ("unchanged", "rows_unchanged"),
    ("deleted", "rows_deleted"),
    ("quarantined", "rows_quarantined"),
)


def loads_table(loads: Sequence[dict[str, Any]], title: str, width: int) -> Table:
    """The loads of a run. A narrow terminal does not show unchanged rows and totals."""
    shown = [(label, column) for label, column in _COUNTS if width >= _NARROW or column != "rows_unchanged"]
    totals = [("source", "source_rows"), ("raw", "raw_rows")] if width >= _NARROW else []
    numeric = [label for label, _ in [*shown, *totals]] + ["s"]
    table = grid(title, ["table", "strategy", *numeric[:-1], "result", "s"], numeric)
    for load in loads:
        counts = [number(load[column], dim_zero=True) for _, column in shown]
        result = load["reconciliation"] if load["status"] == "published" else load["status"]
        table.add_row(
            f"{load['source_system']}.{load['table_name']}",
            load["strategy"],
            *counts,
            *[number(load[column]) for _, column in totals],
            styled(result),
            f"{load['seconds']:.1f}" if load["seconds"] is not None else "",
        )
    return table


def noticed_loads(loads: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The name of each table, and what was found, if its last load found that both ends do not hold the same."""
    last = {f"{load['source_system']}.{load['table_name']}": load for load in loads}
    lines = []
    for name, load in last.items():
        counts = LoadCounts(**{key: load[key] for key in _WORDED})
        if load["status"] == "published" and (said := in_words(counts)) is not None:
            lines.append((name, said))
    return lines


def partitions_table(counted: Iterable[tuple[Partition, int, int]]) -> Table:
    """`medallion backfill --plan`: rows per partition at the source and in raw."""
    table = grid("Partitions", ["days", "rows at the source", "rows in raw"], ["rows at the source", "rows in raw"])
    for partition, at_source, in_raw in counted:
        table.add_row(str(partition), f"{at_source:,}", f"{in_raw:,}")
    return table


_DIFFERENCES = ("missing", "extra", "different", "duplicate")
_COMPARED = ("source_rows", "raw_rows", *_DIFFERENCES, "quarantined", "pending", "repaired")


def reconciliations_table(results: Iterable[dict[str, Any]]) -> Table:
    """`medallion reconcile`: rows at the source and in raw, how they differ, and below it what was not compared."""
    labels = [name.removesuffix("_rows") for name in _COMPARED]
    table = grid("Reconciliation", ["table", "result", *labels, "s"], [*labels, "s"])
    noted: dict[str, list[str]] = {}
    for result in results:
        name = f"{result['source_system']}.{result['table_name']}"
        table.add_row(
            name,
            styled(result["result"]),
            *[number(result[count], dim_zero=not count.endswith("_rows")) for count in _COMPARED],
            f"{result['seconds']:.1f}",
        )
        if result["note"]:
            noted.setdefault(result["note"], []).append(name)
    if noted:
        table.caption = Text("\n".join(visible(f"{', '.join(names)}: {note}") for note, names in noted.items()), "dim")
        table.caption_justify = "left"
    return table


def changed_rows(loads: Iterable[dict[str, Any]]) -> int:
    """Rows of raw that a run changed."""
    return sum((load[column] or 0) for load in loads for column in ("rows_inserted", "rows_updated", "rows_deleted"))
