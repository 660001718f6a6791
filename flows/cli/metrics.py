"""`medallion metrics`: the metrics of the warehouse, for Prometheus."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from flows.cli.terminal import prepare
from flows.values.errors import ConfigurationError, MedallionError
from flows.values.settings import settings


def metrics(
    push: Annotated[
        bool, typer.Option("--push", help="Send them to MEDALLION_METRICS_PUSH_URL instead of printing them")
    ] = False,
) -> None:
    """Print metrics of loads, runs, models, alerts and the warehouse in the text format of Prometheus."""
    prepare(asks_server=False)
    if push and settings().metrics_push_url is None:
        raise ConfigurationError(
            "no receiver of metrics is configured", where="metrics", fix="set MEDALLION_METRICS_PUSH_URL"
        )
    text = asyncio.run(_measure(push=push))
    if not push:
        typer.echo(text.decode(), nl=False)


async def _measure(*, push: bool) -> bytes:
    from flows.access import addresses
    from flows.operations.exported import exposition, measured
    from flows.operations.metrics_push import Push
    from flows.state import ledger

    async with addresses.connect(addresses.warehouse(), side="warehouse", application="medallion metrics") as warehouse:
        await ledger.ensure_schema(warehouse)
        text = exposition(await measured(warehouse))
    if push:
        url = settings().metrics_push_url
        assert url is not None
        receiver = Push(url)
        problem = await receiver.send(text)
        await receiver.close()
        if problem is not None:
            raise MedallionError(
                f"the receiver did not accept the metrics: {problem}",
                where="MEDALLION_METRICS_PUSH_URL",
                fix="check the URL, which ends in /metrics/job/NAME, and that this machine reaches it",
                retryable=True,
            )
    return text
