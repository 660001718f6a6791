"""`medallion volume`: rows per day, and what is usual."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from flows.cli.terminal import console, prepare
from flows.observe import look

if TYPE_CHECKING:
    from flows.operations.volumes import Volume

_STYLES = {"usual": "green", "learning": "dim", "low": "bold red", "high": "bold red"}


def volume(
    tables: Annotated[list[str] | None, typer.Argument(metavar="[SOURCE[.TABLE]]…", help="Default: all")] = None,
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="How many days, up to yesterday")] = 7,
) -> None:
    """Show the rows that tables received per day (UTC), and the range that is usual on that weekday."""
    prepare(asks_server=False)
    chosen = asyncio.run(_read(days))
    wanted = {*(tables or [])}
    console.print(_table([each for each in chosen if not wanted or wanted & {each.table, each.source_system}]))


async def _read(days: int) -> list[Volume]:
    from flows.access import addresses
    from flows.operations.volumes import holidays_of, volumes
    from flows.sources import SOURCES
    from flows.state import ledger

    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    async with addresses.connect(addresses.warehouse(), side="warehouse", application="medallion volume") as warehouse:
        await ledger.ensure_schema(warehouse)
        return await volumes(warehouse, yesterday, days, holidays_of(SOURCES, yesterday, days))


def _table(found: list[Volume]) -> Table | Text:
    if not found:
        return Text("no table was loaded on these days", style="dim")
    table = look.grid("rows per day", ("table", "day", "rows", "usual", "range", "state"), ("rows", "usual", "range"))
    for each in found:
        known = each.state != "learning"
        table.add_row(
            each.table,
            f"{each.day:%a %Y-%m-%d}",
            look.number(each.rows),
            look.number(each.usual if known else None),
            f"{each.lowest:,} to {each.highest:,}" if known else "",
            Text(each.state if known else f"learning: {each.known} of 8", style=_STYLES[each.state]),
        )
    return table
