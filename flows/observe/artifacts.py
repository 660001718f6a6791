"""Markdown tables for Prefect artifacts, made of plain values. Flows publish them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from flows.observe.markdown import cell
from flows.values.result_words import NOTICED

_Line = TypeVar("_Line")
# Prefect stores an artifact as one text; nobody reads more rows than this.
ROWS_SHOWN = 500


@dataclass(frozen=True, slots=True)
class LoadLine:
    """One load of one table. `seconds` is wall-clock time, `note` one short line."""

    source: str
    table: str
    strategy: str
    status: str
    rows_read: int = 0
    rows_inserted: int = 0
    rows_updated: int = 0
    rows_unchanged: int = 0
    rows_deduplicated: int = 0
    rows_quarantined: int = 0
    rows_deleted: int = 0
    bytes: int = 0
    seconds: float = 0.0
    reconciliation: str = ""
    note: str = ""

    @property
    def differs(self) -> bool:
        """Whether raw does not hold what the source does."""
        return self.reconciliation in NOTICED


@dataclass(frozen=True, slots=True)
class CheckLine:
    """One check of a gate. `outcome`: passed, warned, failed, error or not_evaluated."""

    dataset: str
    check: str
    column: str | None
    outcome: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class NodeLine:
    """One dbt node of a build. `status` in dbt's words: success, pass, warn, error, fail, skipped."""

    name: str
    kind: str
    status: str
    seconds: float = 0.0
    rows: int | None = None
    message: str = ""


def loads_table_markdown(loads: Iterable[LoadLine], *, title: str = "Loads") -> str:
    """A table of loads with a line of totals; failed loads come first, then those whose ends differ."""
    lines = sorted(loads, key=lambda load: (load.status == "published", not load.differs, load.source, load.table))
    if not lines:
        return f"# {title}\n\nNothing was loaded.\n"
    columns: Mapping[str, Callable[[LoadLine], object]] = {
        "table": lambda load: f"{load.source}.{load.table}" if load.source else load.table,
        "strategy": lambda load: load.strategy,
        "status": lambda load: load.status,
        # Before the counts: Prefect's page cuts off what is wider than its window.
        "result": lambda load: load.reconciliation,
        "read": lambda load: load.rows_read,
        "inserted": lambda load: load.rows_inserted,
        "updated": lambda load: load.rows_updated,
        "unchanged": lambda load: load.rows_unchanged,
        "deduplicated": lambda load: load.rows_deduplicated,
        "quarantined": lambda load: load.rows_quarantined,
        "deleted": lambda load: load.rows_deleted,
        "rows/s": lambda load: round(load.rows_read / load.seconds) if load.seconds else 0,
        "seconds": lambda load: f"{load.seconds:.1f}",
        "note": lambda load: load.note,
    }
    total = LoadLine(
        source="",
        table=f"{len(lines)} tables",
        strategy="",
        status=f"{sum(line.status == 'published' for line in lines)} published",
        rows_read=sum(line.rows_read for line in lines),
        rows_inserted=sum(line.rows_inserted for line in lines),
        rows_updated=sum(line.rows_updated for line in lines),
        rows_unchanged=sum(line.rows_unchanged for line in lines),
        rows_deduplicated=sum(line.rows_deduplicated for line in lines),
        rows_quarantined=sum(line.rows_quarantined for line in lines),
        rows_deleted=sum(line.rows_deleted for line in lines),
        seconds=sum(line.seconds for line in lines),
    )
    return f"# {title}\n\n{_markdown(columns, [*lines, total])}"


def checks_table_markdown(checks: Iterable[CheckLine], *, gate: str) -> str:
    """A gate's result, every check that did not pass, and its tables; passed checks are counted, not listed."""
    lines = list(checks)
    noticed = [line for line in lines if line.outcome != "passed"]
    blocking = [line for line in noticed if line.outcome != "warned"]
    result = "failed" if blocking else "passed"
    head = (
        f"# Gate {gate}: {result}\n\n{len(lines)} checks on {len({line.dataset for line in lines})} tables, "
        f"{len(lines) - len(noticed)} passed, {len(noticed) - len(blocking)} warned, {len(blocking)} blocking.\n"
    )
    tables = f"## Tables\n\n{_markdown(_GATE_COLUMNS, _by_dataset(lines))}"
    if not noticed:
        return f"{head}\n{tables}"
    columns: Mapping[str, Callable[[CheckLine], object]] = {
        "dataset": lambda line: line.dataset,
        "check": lambda line: line.check,
        "column": lambda line: line.column or "",
        "outcome": lambda line: line.outcome,
        "what": lambda line: line.message,
    }
    found = _markdown(columns, sorted(noticed, key=lambda line: line.outcome == "warned"))
    return f"{head}\n{found}\n{tables}"


@dataclass(frozen=True, slots=True)
class _Dataset:
    """A table of a gate: how many checks it has, and how many did not pass."""

    name: str
    checks: int
    warned: int
    failed: int


_GATE_COLUMNS: Mapping[str, Callable[[_Dataset], object]] = {
    "table": lambda each: each.name,
    "result": lambda each: "failed" if each.failed else "warned" if each.warned else "passed",
    "checks": lambda each: each.checks,
    "failed": lambda each: each.failed,
    "warned": lambda each: each.warned,
}


def _by_dataset(lines: Sequence[CheckLine]) -> list[_Dataset]:
    """Tables that failed first, then by name."""
    outcomes: dict[str, list[str]] = {}
    for line in lines:
        outcomes.setdefault(line.dataset, []).append(line.outcome)
    found = [
        _Dataset(name, len(of), of.count("warned"), sum(each not in ("passed", "warned") for each in of))
        for name, of in outcomes.items()
    ]
    return sorted(found, key=lambda each: (not each.failed, not each.warned, each.name))


def nodes_table_markdown(nodes: Iterable[NodeLine]) -> str:
    """A dbt build: counts per kind, failed nodes, and the ten slowest."""
    lines = list(nodes)
    # dbt lists exposures with the nodes, although there is nothing to build.
    bad = [line for line in lines if line.status not in ("success", "pass", "no-op")]
    kinds = sorted({line.kind for line in lines})
    counts = ", ".join(f"{sum(line.kind == kind for line in lines)} {kind}" for kind in kinds)
    columns: Mapping[str, Callable[[NodeLine], object]] = {
        "node": lambda line: line.name,
        "kind": lambda line: line.kind,
        "status": lambda line: line.status,
        "seconds": lambda line: f"{line.seconds:.2f}",
        "rows": lambda line: "" if line.rows is None else line.rows,
        "what": lambda line: line.message,
    }
    parts = [f"# dbt: {len(lines)} nodes, {len(bad)} failed\n\n{counts}\n"]
    if bad:
        parts.append(f"## Failed\n\n{_markdown(columns, bad)}")
    slowest = sorted(lines, key=lambda line: line.seconds, reverse=True)[:10]
    if slowest:
        parts.append(f"## Slowest\n\n{_markdown(columns, slowest)}")
    return "\n".join(parts)


def links_markdown(links: Mapping[str, str]) -> str:
    """A list of links; URLs with credentials are left out."""
    shown = {name: url for name, url in links.items() if "@" not in url.split("?", 1)[0]}
    return "".join(f"- [{name}]({url})\n" for name, url in shown.items())


def _markdown(columns: Mapping[str, Callable[[_Line], object]], lines: Sequence[_Line]) -> str:
    rows = [[_shown(value(line)) for value in columns.values()] for line in lines[:ROWS_SHOWN]]
    # Numeric columns are right-aligned.
    numeric = [all(isinstance(value(line), int) for line in lines) for value in columns.values()]
    head = f"| {' | '.join(columns)} |\n| {' | '.join('---:' if is_number else '---' for is_number in numeric)} |\n"
    body = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    left = len(lines) - len(rows)
    return head + body + (f"\n… and {left:,} more.\n" if left > 0 else "")


def _shown(value: object) -> str:
    return cell(f"{value:,}" if isinstance(value, int) else value)
