"""The diff of a pull request as Markdown, for reviewers. It contains no values of rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from flows.models.compare import Difference, Keys, Total
from flows.models.project import BuiltNode
from flows.observe.markdown import cell


@dataclass(frozen=True, slots=True)
class ModelChange:
    """One relation that a pull request touches. `change`: new, modified, removed, or downstream of another change.

    `status` is dbt's; without a `difference` it was not built, so there was nothing to compare.
    """

    name: str
    layer: str
    change: str
    status: str
    difference: Difference | None = None


@dataclass(frozen=True)
class Review:
    """The result of a diff.

    `problem` is dbt's error if it could not parse the project. `moved` are raw tables that changed since the compared
    build began: their rows may differ without any edit.
    """

    name: str
    run_id: int | None
    built_at: datetime | None
    moved: tuple[str, ...] = ()
    changes: tuple[ModelChange, ...] = ()
    nodes: tuple[BuiltNode, ...] = field(default=(), repr=False)
    problem: str = ""
    seconds: float = 0.0
    dropped: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[BuiltNode, ...]:
        """Nodes that were not built, and failed tests."""
        return tuple(node for node in self.nodes if not node.ok)

    @property
    def ok(self) -> bool:
        """Whether the build and all tests passed."""
        return not self.problem and not self.failed


def review_markdown(review: Review) -> str:
    """The report, from the summary down to single columns."""
    lines = [f"# What `{review.name}` changes in the warehouse", "", _verdict(review), ""]
    if review.problem:
        return "\n".join([*lines, "```text", review.problem, "```", ""])
    if review.changes:
        lines += [
            "| model | layer | change | rows | keys added | keys removed | rows changed | columns | totals |",
            "| --- | --- | --- | ---: | ---: | ---: | ---: | --- | --- |",
            *(_line(change) for change in review.changes),
            "",
        ]
    for change in review.changes:
        details = _details(change)
        if details:
            lines += [f"### {change.layer}: {change.name}", "", *details, ""]
    lines += _tests(review)
    lines += _notes(review)
    return "\n".join(lines).rstrip() + "\n"


def _verdict(review: Review) -> str:
    against = (
        f"the build of {review.built_at:%Y-%m-%d %H:%M} UTC (run {review.run_id})"
        if review.built_at
        else "the state given"
    )
    if review.problem:
        return "**dbt cannot read the project.** Nothing was built."
    if not review.nodes and not review.changes:
        return f"**Nothing differs** from {against}."
    built = [change for change in review.changes if change.difference is not None]
    differ = [change.name for change in built if change.difference and not change.difference.same]
    tests = [node for node in review.failed if node.kind in {"test", "unit_test"}]
    broken = [node for node in review.failed if node not in tests and node.status != "skipped"]
    parts = []
    if broken:
        parts.append(f"{len(broken)} could not be built")
    if tests:
        parts.append(f"{len(tests)} of {sum(n.kind in {'test', 'unit_test'} for n in review.nodes)} tests fail")
    parts.append(f"{len(differ)} of {len(review.changes)} tables and views differ" if differ else "no content differs")
    return f"**{'; '.join(parts).capitalize()}.** Compared with {against}, in {review.seconds:.0f} s."


def _line(change: ModelChange) -> str:
    difference = change.difference
    if difference is None:
        return f"| `{change.name}` | {change.layer} | {change.change} | {change.status} | | | | | |"
    keys = difference.keys
    cells = [
        f"`{change.name}`",
        change.layer,
        change.change,
        _rows(difference),
        _number(keys.added) if keys else "",
        _number(keys.removed) if keys else "",
        _number(keys.changed) if keys else "no key",
        _columns(difference),
        _totals(difference.totals),
    ]
    if difference.rows_before is None or difference.rows_after is None:
        cells[4:9] = ["", "", "", "", ""]
    return f"| {' | '.join(cells)} |"


def _rows(difference: Difference) -> str:
    before, after = difference.rows_before, difference.rows_after
    if before is None or after is None:
        return f"{before if after is None else after or 0:,}" if (before, after) != (None, None) else ""
    return f"{after:,}" if before == after else f"{before:,} → {after:,} ({after - before:+,})"


def _number(count: int) -> str:
    return f"**{count:,}**" if count else "0"


def _columns(difference: Difference) -> str:
    counted = (
        (len(difference.columns_added), "added"),
        (len(difference.columns_removed), "removed"),
        (len(difference.columns_retyped), "retyped"),
    )
    return ", ".join(f"**{count} {what}**" for count, what in counted if count) or "same"


def _totals(totals: Iterable[Total]) -> str:
    totals = tuple(totals)
    differing = [total for total in totals if total.before != total.after]
    if not totals:
        return ""
    return f"**{len(differing)} of {len(totals)} differ**" if differing else f"{len(totals)} same"


def _details(change: ModelChange) -> list[str]:
    difference = change.difference
    if difference is None or difference.rows_before is None or difference.rows_after is None:
        return []
    lines = [f"- column added: `{name}` {kind}" for name, kind in difference.columns_added]
    lines += [f"- column removed: `{name}` {kind}" for name, kind in difference.columns_removed]
    lines += [f"- column retyped: `{name}` {before} → {after}" for name, before, after in difference.columns_retyped]
    lines += _key_details(difference.keys)
    differing = [total for total in difference.totals if total.before != total.after]
    if differing:
        lines += ["", "| total of | before | after | difference |", "| --- | ---: | ---: | ---: |"]
        for total in differing:
            gap = "" if total.before is None or total.after is None else f"{total.after - total.before:+,f}"
            lines.append(f"| `{total.column}` | {_amount(total.before)} | {_amount(total.after)} | {gap} |")
    return lines


def _key_details(keys: Keys | None) -> list[str]:
    if keys is None:
        return []
    lines = []
    if keys.changed_columns:
        listed = ", ".join(f"`{name}` in {count:,}" for name, count in keys.changed_columns.items())
        lines.append(f"- rows changed, by column: {listed}")
    if keys.ambiguous:
        lines.append(f"- {keys.ambiguous:,} rows were not compared: ({', '.join(keys.columns)}) is not unique there")
    return lines


def _amount(value: Decimal | None) -> str:
    return "none" if value is None else f"{value:,f}"


def _tests(review: Review) -> list[str]:
    tests = [node for node in review.nodes if node.kind in {"test", "unit_test"}]
    troubled = [node for node in review.nodes if not node.ok or node.status == "warn"]
    lines = []
    if troubled:
        lines += ["## Failures", "", "| kind | name | status | reason |", "| --- | --- | --- | --- |"]
        for node in troubled:
            why = f"{node.failures:,} rows" if node.failures else node.message.splitlines()[0] if node.message else ""
            lines.append(f"| {node.kind.replace('_', ' ')} | `{node.name}` | {node.status} | {cell(why)} |")
        lines.append("")
    passed = sum(node.status == "pass" for node in tests)
    if tests:
        lines += [f"{passed} of {len(tests)} tests passed.", ""]
    return lines


def _notes(review: Review) -> list[str]:
    lines = []
    if review.moved:
        lines.append(
            f"- Raw has changed since that build began ({', '.join(review.moved)}): rows may differ without any edit. "
            "A full build of the main branch makes them comparable."
        )
    if any(change.change in {"new", "modified", "downstream"} for change in review.changes):
        lines.append(
            "- Incremental models were rebuilt from scratch: their differences appear in production after "
            "`--full-refresh`. Audit columns, which begin with `_`, were not compared row by row."
        )
    return ["## Notes", "", *lines, ""] if lines else []
