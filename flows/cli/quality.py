"""`medallion quality`: a table's quality by day, and how its columns changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from flows.cli.terminal import console, prepare
from flows.observe import look
from flows.observe.sparkline import sparkline

if TYPE_CHECKING:
    from flows.operations.quality_history import ColumnTrend, QualityDay


#: Days in a column's charts: three of them and its name fit into 80 columns.
_CHARTED = 10


def quality(
    table: Annotated[str, typer.Argument(metavar="SOURCE.TABLE|gold.TABLE", help="For example shop.baskets")],
    days: Annotated[int, typer.Option("--days", min=2, max=90, help="How many days, up to yesterday")] = 14,
) -> None:
    """Show a table's quality by day (UTC): rows refused, checks, a score, and how its columns changed."""
    prepare(asks_server=False)
    last = datetime.now(UTC).date() - timedelta(days=1)
    first = last - timedelta(days=days - 1)
    found, trends = asyncio.run(_read(table, first, last))
    if not found and not trends:
        console.print(Text(f"nothing is known of {table} on these days", style="dim"))
        return
    if found:
        scores = {each.day: each.score for each in found}
        line = sparkline([scores.get(first + timedelta(days=n)) for n in range(days)], 0, 1)
        console.print(_days_table(table, found))
        console.print(Text.assemble("score  ", line, f"  {first:%m-%d} to {last:%m-%d}", no_wrap=True))
    if trends:
        console.print(_columns_table(trends))


async def _read(table: str, first: date, last: date) -> tuple[list[QualityDay], list[ColumnTrend]]:
    from flows.access import addresses
    from flows.operations.quality_history import column_trends, quality_days
    from flows.state import ledger

    source, _, name = table.partition(".")
    async with addresses.connect(addresses.warehouse(), side="warehouse", application="medallion quality") as warehouse:
        await ledger.ensure_schema(warehouse)
        return (
            await quality_days(warehouse, table, first, last),
            await column_trends(warehouse, source, name, first, last),
        )


def _days_table(name: str, found: Sequence[QualityDay]) -> Table:
    names = ("day", "loads", "rows", "refused", "checks", "score", "unusual")
    table = look.grid(f"quality of {name}", names, ("loads", "rows", "refused", "checks", "score"))
    for each in found:
        passed = each.checks - each.checks_failed
        table.add_row(
            f"{each.day:%a %m-%d}",
            f"{each.loads}" + (f", {each.refused_loads} refused" if each.refused_loads else ""),
            look.number(each.rows_read),
            look.number(each.rows_refused, dim_zero=True),
            Text(f"{passed} of {each.checks}" if each.checks else "", style="bold red" if each.checks_failed else ""),
            Text("" if each.score is None else f"{100 * each.score:.2f} %"),
            Text(_unusual(each), style="yellow"),
        )
    return table


def _unusual(each: QualityDay) -> str:
    columns = f"{each.unusual_columns} column{'s' * (each.unusual_columns > 1)}" if each.unusual_columns else ""
    return ", ".join(part for part in ("rows" * each.unusual_volume, "arrival" * each.unusual_arrival, columns) if part)


def _columns_table(trends: Sequence[ColumnTrend]) -> Table:
    table = look.grid(
        f"columns, the last {_CHARTED} days", ("column", "nulls", "last", "distinct", "drift", "most"), ("last", "most")
    )
    for chart in (1, 3, 4):
        table.columns[chart].min_width = _CHARTED
    for each in trends:
        nulls = [share for share in each.nulls if share is not None]
        drift = [share for share in each.drift if share is not None]
        table.add_row(
            each.name,
            Text(sparkline(each.nulls[-_CHARTED:], 0, 1), no_wrap=True),
            f"{100 * nulls[-1]:.0f} %" if nulls else "",
            Text(sparkline(each.distinct[-_CHARTED:], 0) if any(each.distinct) else "", no_wrap=True),
            Text(sparkline(each.drift[-_CHARTED:], 0, 1) if drift else "", no_wrap=True),
            f"{100 * max(drift):.0f} %" if drift else "",
        )
    return table
