"""`medallion receipt`: what tables of gold rest on, as published and as known now."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from flows.cli.terminal import console, prepare
from flows.observe.look import grid

if TYPE_CHECKING:
    from flows.models.receipts import Receipt


def receipt(
    table: Annotated[
        str | None, typer.Argument(metavar="[TABLE]", help="A table of gold, for example agg_daily_sales; default: all")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs")] = False,
) -> None:
    """Show what a table of gold rests on: loads, comparisons with sources, quarantined rows, tests; or all in short.

    Exit code 1 if there is a problem. Changes nothing.
    """
    prepare(asks_server=False)
    found = asyncio.run(_read(table))
    if as_json:
        from flows.models.receipts import as_values

        typer.echo(json.dumps([as_values(each) for each in found], indent=2))
    elif table is None:
        console.print(receipts_table(found))
    else:
        for each in found:
            show(each)
    if any(each.problems for each in found):
        raise typer.Exit(1)


async def _read(table: str | None) -> list[Receipt]:
    from flows.access import addresses
    from flows.models.receipts import read_receipts

    async with addresses.connect(
        addresses.warehouse("transformer"), side="warehouse", application="medallion receipt"
    ) as connection:
        return await read_receipts(connection, table)


def receipts_table(receipts: Sequence[Receipt]) -> Table:
    """One line per table of gold."""
    from flows.models.receipts import summary, tests_in_words

    columns = ["table", "published (UTC)", "complete until", "oldest load (UTC)", "quarantined", "tests", "findings"]
    table = grid("Receipts of gold", columns, ["quarantined"])
    for each in receipts:
        table.add_row(
            each.table,
            _time(each.published_at),
            each.complete_until.isoformat() if each.complete_until else "",
            _time(each.loaded_at),
            quarantined(each),
            tests_in_words(each.tests),
            Text(summary(each.findings) or "none", style="bold red" if each.problems else ""),
        )
    return table


def show(receipt: Receipt) -> None:
    """Print one receipt in full."""
    from flows.models.receipts import tests_in_words

    lines = [
        f"published {_time(receipt.published_at)} UTC by {_built_by(receipt)}",
        f"tests: {tests_in_words(receipt.tests)}" + (f", {_time(receipt.tested_at)} UTC" if receipt.tested_at else ""),
        f"rows quarantined on the way: {quarantined(receipt)}",
    ]
    if receipt.complete_until:
        lines.append(f"complete until {receipt.complete_until.isoformat()}")
    console.print(Text(f"gold.{receipt.table}", style="bold"))
    for line in lines:
        console.print(f"  {line}", markup=False, highlight=False)
    columns = [
        "source table", "has load", "of (UTC)", "read to", "last load (UTC)", "result", "reconciled", "rows",
        "quarantined",
    ]  # fmt: skip
    table = grid("Sources", columns, ["rows", "quarantined"])
    for source in receipt.sources:
        compared = f"{source.compared} {_time(source.compared_at)}" if source.compared else ""
        table.add_row(
            source.name,
            str(source.as_of_batch or ""),
            _time(source.as_of),
            source.read_to or "",
            _time(source.loaded_at),
            source.result or "",
            compared,
            f"{source.rows:,}" if source.rows is not None else "",
            str(source.quarantined or ""),
        )
    if receipt.sources:
        console.print(table)
    for finding in receipt.findings:
        since = " (since it was published)" if finding.is_new else ""
        style = "bold red" if finding.level == "problem" else "yellow"
        console.print(
            Text(f"  {finding.level}: ", style=style), Text(f"{finding.about}: {finding.text}{since}"), sep=""
        )
    if not receipt.findings:
        console.print("  nothing is known against it")


def quarantined(receipt: Receipt) -> str:
    """`12 (0.03 %)`."""
    if receipt.quarantined_share is None or not receipt.rows_quarantined:
        return f"{receipt.rows_quarantined:,}"
    return f"{receipt.rows_quarantined:,} ({receipt.quarantined_share:.2%})"


def _built_by(receipt: Receipt) -> str:
    run = f"run {receipt.run_id}" if receipt.run_id is not None else "a call of dbt, outside of a run"
    code = [f"commit {receipt.commit[:12]}"] if receipt.commit else []
    code += [f"models {receipt.models}"] if receipt.models else []
    return f"{run} ({', '.join(code)})" if code else run


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment is not None else ""
