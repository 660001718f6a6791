"""`medallion metrics`: the metrics of the warehouse, for Prometheus."""

from __future__ import annotations

import asyncio

import typer

from flows.cli.terminal import prepare


def metrics() -> None:
    """Print metrics of loads, runs, alerts and the warehouse in the text format of Prometheus."""
    prepare(asks_server=False)
    typer.echo(asyncio.run(_measure()).decode(), nl=False)


async def _measure() -> bytes:
    from flows.access import addresses
    from flows.operations.exported import exposition
    from flows.state import ledger

    async with addresses.connect(addresses.warehouse(), side="warehouse", application="medallion metrics") as warehouse:
        await ledger.ensure_schema(warehouse)
        return await exposition(warehouse)
