"""`medallion cost`: what tables, models and runs cost, by the declared prices."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from flows.cli.terminal import console, prepare
from flows.observe import look
from flows.values.errors import ConfigurationError
from flows.values.settings import settings

if TYPE_CHECKING:
    from flows.operations.cost import Costs, Line


def cost(
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="How many days, up to yesterday (UTC)")] = 30,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Lines shown; the others are one line")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="All lines, for programs")] = False,
) -> None:
    """Show what tables, models and runs cost, and how that changed since the period before."""
    prepare(asks_server=False)
    found = asyncio.run(_read(days))
    if as_json:
        typer.echo(json.dumps(as_values(found)))
        return
    console.print(cost_table(found, rows))
    if not any(line.times for line in found.lines):
        console.print("no run ended on these days; those of today count from tomorrow (UTC)", style="yellow")
    console.print(f"all prices in {settings().price_currency}; docs/cost.md says what is in a line", style="dim")


async def _read(days: int) -> Costs:
    from flows.access import addresses
    from flows.operations.cost import costs
    from flows.state import ledger
    from flows.values.price import Price

    price = Price.declared()
    if not price:
        raise ConfigurationError(
            "no price is set",
            where="cost",
            fix="set MEDALLION_PRICE_PER_HOUR, MEDALLION_PRICE_PER_GB, MEDALLION_PRICE_PER_GB_MONTH or "
            "MEDALLION_PRICE_PER_DAY",
        )
    async with addresses.connect(addresses.warehouse(), side="warehouse", application="medallion cost") as warehouse:
        await ledger.ensure_schema(warehouse)
        return await costs(warehouse, datetime.now(UTC).date(), days, price)


def cost_table(found: Costs, rows: int) -> Table:
    """The most expensive lines, the others in one, what belongs to no line, and the whole."""
    *lines, rest = found.lines
    lines = [line for line in lines if line.cost]  # without a price of storage, what is only stored costs nothing
    names = ("what", "name", "time", "GB", "cost", "share", "change")
    table = look.grid(f"cost, {found.since} to {found.until}", names, names[2:])
    for line in lines[:rows]:
        table.add_row(line.kind, line.name, *_facts(line, found.whole))
    if others := lines[rows:]:
        together = sum(line.cost for line in others)
        table.add_row("", f"{len(others)} others", "", "", f"{together:,.2f}", _share(together, found.whole), "")
    table.add_row("", rest.name, *_facts(rest, found.whole))
    table.add_section()
    change = _change(found.whole, found.before if lines and lines[0].before is not None else None)
    table.add_row("", "all", "", "", f"{found.whole:,.2f}", "100 %", change, style="bold")
    return table


def _facts(line: Line, whole: float) -> tuple[str | Text, ...]:
    return (
        look.ago(line.seconds) if line.seconds >= 1 else "",
        f"{line.stored / 1e9:,.2f}" if line.stored else "",
        f"{line.cost:,.2f}",
        _share(line.cost, whole),
        _change(line.cost, line.before),
    )


def _share(cost: float, whole: float) -> str:
    return f"{cost / whole:.0%}".replace("%", " %") if whole else ""


def _change(cost: float, before: float | None) -> str:
    """`+12 %`; nothing where nothing is known of the period before."""
    if before is None:
        return ""
    return "new" if not before and cost else f"{cost / before - 1:+.0%}".replace("%", " %") if before else ""


def as_values(found: Costs) -> dict[str, object]:
    """For programs: times in seconds, sizes in bytes, days in ISO 8601."""
    lines = [{**asdict(line), "cost": line.cost} for line in found.lines]
    return {
        "since": found.since.isoformat(),
        "until": found.until.isoformat(),
        "currency": settings().price_currency,
        "whole": found.whole,
        "before": found.before,
        "lines": lines,
    }
