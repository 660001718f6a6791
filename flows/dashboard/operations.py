"""Pages of operations, except those where something is done."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from flows.dashboard import ledger, lineage, promises
from flows.dashboard.desk import desk, needs, number_in
from flows.dashboard.people import VIEWER
from flows.dashboard.views import Chart, Series, page
from flows.operations.freshness import Reading
from flows.operations.silences import silences
from flows.state.freshness import PARTIAL, load_ends
from flows.values.errors import DeclarationError

DAYS = 30
SPANS = (1, 7, 30)
ALERTS_A_PAGE = 50
_SHORT = 5
#: A watch looks every 10 s by default; after this it is said that it does not.
_WATCH_SILENT = timedelta(minutes=2)


def since_days(days: int) -> datetime:
    """The beginning (UTC) of the first of so many days, of which today is the last."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=days - 1)


@needs(VIEWER)
async def now(request: Request) -> Response:
    """What needs me now."""
    at = desk(request)
    day_ago = datetime.now(UTC) - timedelta(days=1)

    async def of_alerts() -> tuple[Any, ...]:
        async with at.reader.session() as connection:
            return (
                await ledger.open_alerts(connection, _SHORT),
                await ledger.alert_counts(connection),
                await ledger.watches(connection),
                await ledger.open_decisions(connection),
            )

    async def of_loads() -> tuple[Any, ...]:
        async with at.reader.session() as connection:
            return await ledger.summary(connection, day_ago), await ledger.quarantine(connection)

    alerts, loads, broken, models = await asyncio.gather(of_alerts(), of_loads(), at.facts.broken(), at.facts.models())
    shown, counts, watches, decisions = alerts
    summary, quarantine = loads
    newest = watches[0]["last_round_at"] if watches else None
    firing = sum(number for (_, status), number in counts.items() if status == "firing")
    return page(
        request,
        "now.html",
        "What needs me now",
        alerts=shown,
        readers={alert.alert_id: models.dependencies.readers([alert.subject]) for alert in shown},
        open_alerts=sum(counts.values()),
        firing=firing,
        broken=broken,
        shown=_SHORT,
        quarantine=quarantine,
        quarantined=sum(one["rows"] for one in quarantine),
        decisions=decisions,
        watch=watches[0] if watches else None,
        watch_silent=newest is None or datetime.now(UTC) - newest > _WATCH_SILENT,
        summary=summary,
    )


@needs(VIEWER)
async def alerts(request: Request) -> Response:
    """Open alerts, a page at a time, and silences."""
    severity = request.query_params.get("severity")
    severity = severity if severity in ("critical", "error", "warning", "info") else None
    async with desk(request).reader.session() as connection:
        counts = await ledger.alert_counts(connection)
        total = sum(number for (kind, _), number in counts.items() if severity in (None, kind))
        last = max(1, -(-total // ALERTS_A_PAGE))
        number = min(max(1, number_in(request, "page", 1)), last)
        found = await ledger.open_alerts(connection, ALERTS_A_PAGE, (number - 1) * ALERTS_A_PAGE, severity)
        held = await silences(connection)
    by_severity = {
        kind: sum(n for (one, _), n in counts.items() if one == kind)
        for kind in ("critical", "error", "warning", "info")
    }
    return page(
        request, "alerts.html", "Alerts", alerts=found, silences=held, by_severity=by_severity,
        chosen_severity=severity, total=total, number=number, last=last,
    )  # fmt: skip


@needs(VIEWER)
async def grid(request: Request) -> Response:
    """Tables by day: what became of each table's loads."""
    since = since_days(DAYS)
    async with desk(request).reader.session() as connection:
        found = await ledger.grid(connection, since)
    days = [since.date() + timedelta(days=n) for n in range(DAYS)]
    return page(
        request, "grid.html", "Loads by day", days=days, cell=ledger.cell, tables=found, today=datetime.now(UTC).date()
    )


@needs(VIEWER)
async def table(request: Request) -> Response:
    """One table: its clocks, durations, loads."""
    name, day = request.query_params.get("name", ""), _day(request)
    at = desk(request)
    async with at.reader.session() as connection:
        loads = await ledger.loads_of(connection, name, day, 100 if day else 25)
        daily = await ledger.daily_durations(connection, name, since_days(DAYS))
    readings = [one for one in await at.facts.readings() if one.subject == name]
    if not loads and not readings and day is None:
        raise DeclarationError(f"there is no table {name!r}", where="ops.loads", fix="open a table from Loads by day")
    return page(
        request, "table.html", name, name=name, day=day, loads=loads, readings=readings, chart=_durations(daily, name),
        readers=(await at.facts.models()).dependencies.readers([name]),
    )  # fmt: skip


@needs(VIEWER)
async def load(request: Request) -> Response:
    """One load, all that is known of it."""
    number = number_in(request, "id", 0)
    async with desk(request).reader.session() as connection:
        found = await ledger.load(connection, number)
    if found is None:
        raise DeclarationError(f"there is no load {number}", where="ops.loads", fix="open a load from its table")
    return page(request, "load.html", f"Load {number} of {found['table']}", load=found)


@needs(VIEWER)
async def durations(request: Request) -> Response:
    """How long loads take, and how long tables went without one, against what is promised."""
    at, since = desk(request), since_days(DAYS)
    kept = await at.facts.kept()
    async with at.reader.session() as connection:
        found = await ledger.durations(connection, since, PARTIAL)
        names = [one["table"] for one in found]
        chosen = request.query_params.get("table", "")
        chosen = chosen if chosen in names else (names[0] if names else "")
        daily = await ledger.daily_durations(connection, chosen, since) if chosen else []
        source, _, name = chosen.partition(".")
        ends = await load_ends(connection, [(source, name)], since, datetime.now(UTC)) if chosen else {}
    of_chosen = [(reading, share) for reading, share in kept if reading.subject == chosen]
    at_ends = ends.get((source, name), [])
    promised = {reading.subject: (reading, share) for reading, share in kept if reading.clock == "load"}
    due = [one for reading, _ in of_chosen if reading.deadline is not None
           for one in promises.deadlines(reading.deadline, at_ends, since, datetime.now(UTC))]  # fmt: skip
    return page(
        request, "durations.html", "Durations", tables=found, chosen=chosen, promised=promised, due=due,
        chart=_durations(daily, chosen), gaps=_gaps([one for one, _ in of_chosen], at_ends, since),
    )  # fmt: skip


@needs(VIEWER)
async def rows(request: Request) -> Response:
    """What became of the rows that were read: the sum must hold."""
    days = number_in(request, "days", 7, SPANS)
    async with desk(request).reader.session() as connection:
        found = await ledger.row_counts(connection, since_days(days))
    for one in found:
        one["loaded"] = one["inserted"] + one["updated"] + one["unchanged"]
        one["missing"] = one["read"] - one["loaded"] - one["quarantined"] - one["deduplicated"]
    return page(request, "rows.html", "Rows", days=days, spans=SPANS, tables=found)


@needs(VIEWER)
async def resources(request: Request) -> Response:
    """What loads cost, as far as `ops` has it."""
    async with desk(request).reader.session() as connection:
        by_day, by_table, models, memory, server = await ledger.costs(connection, since_days(DAYS))
    speed = Chart(
        "Rows per second of loading", "day (UTC)", [Series("rows per second")],
        [(one["day"], one["rows"] / one["seconds"] if one["rows"] is not None and one["seconds"] else None)
         for one in by_day],
        note="all rows read on a day, by the time its loads took",
    )  # fmt: skip
    volume = Chart(
        "Bytes received", "day (UTC)", [Series("bytes", "B", "size")],
        [(one["day"], one["bytes"]) for one in by_day], kind="bars",
    )  # fmt: skip
    peak = Chart(
        "Memory growth of a chunk, the largest of the day", "day (UTC)", [Series("memory", "B", "size")],
        [(one["day"], one["memory"]) for one in memory],
        note="of large tables, which are read in chunks",
    )  # fmt: skip
    return page(
        request, "resources.html", "Resources", charts=[speed, volume, *([peak] if memory else [])], tables=by_table,
        models=models, server=server,
    )  # fmt: skip


@needs(VIEWER)
async def errors(request: Request) -> Response:
    """Errors by class, with their trend, and the newest."""
    since = since_days(DAYS)
    async with desk(request).reader.session() as connection:
        counted, newest = await ledger.errors(connection, since, 50)
    classes = sorted({one["failure_class"] for one in counted})
    by = {(one["day"], one["failure_class"]): one["errors"] for one in counted}
    days = [since.date() + timedelta(days=n) for n in range(DAYS)]
    half = days[DAYS // 2]
    trends = [
        (kind, sum(n for (day, one), n in by.items() if one == kind and day < half),
         sum(n for (day, one), n in by.items() if one == kind and day >= half))
        for kind in classes
    ]  # fmt: skip
    chart = Chart(
        "Errors per day", "day (UTC)", [Series(kind) for kind in classes],
        [(day, *(by.get((day, kind), 0) for kind in classes)) for day in days],
    )  # fmt: skip
    return page(
        request, "errors.html", "Errors", chart=chart if classes else None, trends=trends, newest=newest,
        half=DAYS // 2,
    )  # fmt: skip


@needs(VIEWER)
async def freshness(request: Request) -> Response:
    """Tables and models by their clocks."""
    kept = await desk(request).facts.kept()
    ordered = sorted(kept, key=lambda one: (not one[0].is_broken, one[0].state != "unknown"))
    return page(
        request, "freshness.html", "Freshness", clocks=ordered, broken=sum(one.is_broken for one, _ in kept),
        has_deadlines=any(one.deadline is not None for one, _ in kept),
    )  # fmt: skip


@needs(VIEWER)
async def lineage_page(request: Request) -> Response:
    """What is built from what, and what is late."""
    at, focus = desk(request), request.query_params.get("of", "")
    models, broken = await at.facts.models(), await at.facts.broken()
    late = {one.subject: f"{one.clock} {one.state}" for one in broken}
    drawing = None if models.manifest is None else lineage.draw(models.manifest, late, focus)
    return page(request, "lineage.html", "Lineage", drawing=drawing, focus=focus, late=late)


def runbook_link(path: str) -> str:
    """Where a runbook can be opened: only if docs are published, for `docs/…` is a path in the repository."""
    return path if path.startswith(("https://", "http://")) else ""


def _durations(daily: Sequence[dict[str, Any]], name: str) -> Chart | None:
    if not daily:
        return None
    series = [Series("median", "s", "seconds"), Series("95 of 100 loads took less", "s", "seconds"),
              Series("longest", "s", "seconds")]  # fmt: skip
    return Chart(
        f"Duration of loads of {name}", "day (UTC)", series,
        [(one["day"], *one["quantiles"], one["longest"]) for one in daily],
    )  # fmt: skip


def _gaps(readings: Sequence[Reading], ends: Sequence[datetime], since: datetime) -> Chart | None:
    within = next((one.within for one in readings if one.clock == "load" and one.within is not None), None)
    gaps = promises.longest_gaps(ends, since, datetime.now(UTC))
    if not gaps:
        return None
    limit = None if within is None else within.total_seconds()
    series = [Series("longest time since a load", "s", "seconds")]
    if limit is not None:
        series.append(Series("promised", "s", "seconds"))
    return Chart(
        "Time between loads, against what is promised", "day (UTC)", series,
        [(day, gap, *([limit] if limit is not None else [])) for day, gap in sorted(gaps.items())],
    )  # fmt: skip


def _day(request: Request) -> date | None:
    try:
        return date.fromisoformat(request.query_params.get("day", ""))
    except ValueError:
        return None
