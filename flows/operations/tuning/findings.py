"""Bottlenecks of tables and models, named by what limits them, each with its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from flows.operations.tuning.history import ENOUGH, TableHistory
from flows.operations.tuning.recommendation import percent

Bottleneck = Literal[
    "duration", "growth", "outliers", "weekday", "throughput", "waiting", "error rate", "CPU", "memory", "learning"
]
#: What is shorter on a day than this is worth nobody's time.
SHORT_A_DAY = 10.0
_GROWTH, _OUTLIER, _WEEKDAY, _SLOWER = 1.3, 3.0, 2.0, 0.7
_WAITS_AT_LEAST, _FAILED_SHARE, _FAILED_AT_LEAST = 5.0, 0.05, 3
_COMPUTES, _MUCH_MEMORY = 0.9, 2 * 1024**3
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, slots=True)
class Finding:
    """What limits a table or model. `figures` has units; `runs`: how many loads or builds it rests on."""

    subject: str
    bottleneck: Bottleneck
    figures: str
    seconds_a_day: float
    runs: int


def findings(tables: Sequence[TableHistory]) -> list[Finding]:
    """All bottlenecks, those of tables that take most time first."""
    return [finding for table in tables for finding in _of(table)]


def _of(table: TableHistory) -> Iterator[Finding]:
    def found(bottleneck: Bottleneck, figures: str, seconds: float | None = None, runs: int | None = None) -> Finding:
        a_day = table.seconds_a_day if seconds is None else seconds
        return Finding(table.name, bottleneck, figures, a_day, table.loads if runs is None else runs)

    if table.failed >= _FAILED_AT_LEAST and table.attempts >= ENOUGH and table.failed > _FAILED_SHARE * table.attempts:
        lost, share = table.failed_seconds / max(table.days, 1.0), percent(table.failed / table.attempts)
        told = f"{table.failed} of {table.attempts} loads failed ({share}), {lost:,.1f} s a day lost"
        yield found("error rate", told, lost, table.attempts)
    median, p95 = table.median_seconds, table.p95_seconds
    if not table.is_known or median is None or p95 is None:
        yield found("learning", f"{table.loads} comparable loads of at least {ENOUGH}", 0.0)
        return
    if table.seconds_a_day >= SHORT_A_DAY:
        yield found(
            "duration",
            f"median {median:,.1f} s, p95 {p95:,.1f} s, {table.per_day:,.1f} loads a day; reads "
            f"{table.rows_read:,.0f} rows, of which at most {table.rows_changed:,.0f} changed (p95)",
        )
        yield from _slow_in_time(table, median, p95, found)
    if table.median_waited >= max(_WAITS_AT_LEAST, median):
        told = f"waits {table.median_waited:,.1f} s from the start of its run, loads in {median:,.1f} s"
        yield found("waiting", told, table.median_waited * table.per_day)
    yield from _machine(table, found)


def _slow_in_time(table: TableHistory, median: float, p95: float, found: Callable[..., Finding]) -> Iterator[Finding]:
    first, last = table.first_third, table.last_third
    if first and last and table.loads >= 3 * ENOUGH and last >= _GROWTH * first:
        yield found("growth", f"median {first:,.1f} s in the oldest third of loads, {last:,.1f} s in the newest")
    if p95 >= _OUTLIER * median:
        yield found("outliers", f"p95 {p95:,.1f} s is {p95 / median:,.1f} times the median")
    before, now = table.first_speed, table.last_speed
    if before and now and table.loads >= 3 * ENOUGH and now <= _SLOWER * before:
        yield found(
            "throughput", f"{before / 1e6:,.1f} MB/s in the oldest third of loads, {now / 1e6:,.1f} in the newest"
        )
    if table.by_weekday:
        day, slowest = max(table.by_weekday.items(), key=lambda each: each[1])
        if len(table.by_weekday) > 1 and slowest >= _WEEKDAY * median:
            yield found(
                "weekday",
                f"{_WEEKDAYS[day - 1]}: median {slowest:,.1f} s, {slowest / median:,.1f} times that of all days",
            )


def _machine(table: TableHistory, found: Callable[..., Finding]) -> Iterator[Finding]:
    """What the process used during the last load, with all that ran in it at the same time."""
    used, took = table.cpu_seconds or 0.0, table.last_seconds or 0.0
    if took and used >= _COMPUTES * took and table.seconds_a_day >= SHORT_A_DAY:
        yield found("CPU", f"the process computed for {used:,.1f} s of the last load's {took:,.1f} s", runs=1)
    if table.memory_bytes and table.memory_bytes >= _MUCH_MEMORY:
        yield found("memory", f"the process had {table.memory_bytes / 1e9:,.1f} GB at the end of the last load", runs=1)
