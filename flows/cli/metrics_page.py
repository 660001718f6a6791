"""docs/metrics.md: every metric, of the registry. `medallion render` writes it.

It is here and not in flows/render, because flows.render may not import flows.operations.
"""

from __future__ import annotations

from pathlib import Path

from flows.operations.metric import Metric
from flows.operations.metric_registry import METRICS
from flows.values.settings import PROJECT_ROOT

PAGE = Path("docs/metrics.md")

_HEAD = """\
<!-- rendered by `medallion render`; do not edit -->
# Metrics

What [`medallion watch`](watch.md#metrics) serves at `/metrics`. `medallion metrics` prints those of the warehouse.
How to collect them, rules and dashboards: [Prometheus and Grafana](prometheus.md).

All are gauges of what is now, and of the last load, run and build, unless said otherwise; times are Unix time in
seconds. Of tables, models and other objects, at most 500 each have metrics (`MEDALLION_METRICS_OBJECTS`), declared
tables first; `medallion_series_omitted` says how many have none. While the warehouse does not answer, its metrics are
absent.
"""
_SECTIONS = {
    "warehouse": ("Warehouse", "Measured in the warehouse, once per round of the watch."),
    "Prefect server": ("Prefect server", "As the watch sees it; absent if no server is configured."),
    "watch": (
        "Watch",
        "Of the watch itself, with those of its process as every client of Prometheus names them: "
        "`process_cpu_seconds_total`, `process_resident_memory_bytes`, and others.",
    ),
}


def write(*, check: bool = False, root: Path = PROJECT_ROOT) -> list[Path]:
    """Bring the page up to date, unless `check`. Returns the page if its text differed."""
    path, text = root / PAGE, metrics_page()
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return []
    if not check:
        path.write_text(text, encoding="utf-8")
    return [path]


def metrics_page() -> str:
    """The text of the page."""
    parts = [_HEAD]
    for origin, (title, what) in _SECTIONS.items():
        rows = [_row(each) for each in METRICS if each.origin == origin]
        head = "| metric | unit | labels | meaning | question |\n| --- | --- | --- | --- | --- |"
        parts.append(f"## {title}\n\n{what}\n\n{head}\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _row(each: Metric) -> str:
    meaning = each.meaning if each.type == "gauge" else f"{each.meaning} A counter."
    return f"| `{each.full_name}` | {each.unit} | {', '.join(each.labels)} | {meaning} | {each.question} |"
