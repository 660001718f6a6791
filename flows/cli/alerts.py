"""`medallion alerts`: what is wrong, since when, who is affected, what to do, and whether it is over."""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import uuid4

import typer

from flows.cli import alert_tables
from flows.cli.terminal import console, prepare, problems

if TYPE_CHECKING:
    from asyncpg import Connection, Record

app = typer.Typer(no_args_is_help=True, help="Alerts: what is wrong, since when, and who is notified.")

Result = TypeVar("Result")
_Ids = Annotated[list[int], typer.Argument(metavar="ID…", help="As `medallion alerts list` shows them")]


@app.command("list")
def list_(
    ended: Annotated[str, typer.Option("--ended", help="Also those that ended within this time, such as '1 day'")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For programs")] = False,
) -> None:
    """Show open alerts, the most severe first, and silences. Exit code 1 if one is an error or critical."""
    from flows.declare.duration import parse_duration
    from flows.operations import alerts, silences

    async def read(connection: Connection[Record]) -> tuple[list[Any], list[Any], list[Any]]:
        since = parse_duration(ended, "--ended") if ended else timedelta()
        over = await alerts.ended_alerts(connection, since) if ended else []
        return await alerts.open_alerts(connection), over, await silences.silences(connection)

    open_now, over, held = _with_warehouse(read)
    if as_json:
        typer.echo(json.dumps([alert_tables.as_values(alert) for alert in [*open_now, *over]], indent=2))
    else:
        console.print(alert_tables.list_table(open_now, over))
        if held:
            console.print(alert_tables.silences_table(held))
    if any(alert.severity in ("error", "critical") and alert.status == "firing" for alert in open_now):
        raise typer.Exit(1)


@app.command()
def show(alert_ids: _Ids) -> None:
    """Show alerts in full: cause, history, affected relations of gold, next move, runbook."""
    from flows.operations import alerts
    from flows.operations.affected import read_dependencies

    async def read(connection: Connection[Record]) -> list[Any]:
        dependencies = await read_dependencies(connection)
        found = await alerts.alerts_of(connection, alert_ids)
        if missing := set(alert_ids) - {alert.alert_id for alert in found}:
            raise alerts.unknown(min(missing), "does not exist")
        return [
            (
                alert,
                await alerts.transitions_of(connection, alert.alert_id),
                dependencies.readers([alert.subject]),
                await alerts.messages_of(connection, alert.incident_id),
            )
            for alert in found
        ]

    for each in _with_warehouse(read):
        console.print(alert_tables.alert_panel(*each))


@app.command()
def ack(
    alert_ids: _Ids, note: Annotated[str | None, typer.Option("--note", help="What you do, for the others")] = None
) -> None:
    """Take up alerts, with all of the same incident: the others are notified, and it is not escalated."""
    from flows.operations import alerts

    async def do(connection: Connection[Record]) -> list[int]:
        return await alerts.acknowledge(connection, alert_ids, getpass.getuser(), note)

    taken = _with_warehouse(do)
    console.print(
        f"acknowledged: {', '.join(map(str, taken))}"
        if taken
        else "nothing to acknowledge: they are acknowledged or silenced"
    )


@app.command()
def silence(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="Of alert and subject: 'late shop.*'")],
    lasting: Annotated[str, typer.Option("--for", help="How long, such as '2 h'")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the others")],
) -> None:
    """Send nothing of matching alerts for a time. Its end is sent, with what still fires."""
    from flows.declare.duration import parse_duration
    from flows.operations import silences

    async def do(connection: Connection[Record]) -> Any:
        lasts = parse_duration(lasting, "--for")
        return await silences.silence(connection, pattern, lasts, reason, getpass.getuser())

    console.print(f"silent until {_with_warehouse(do):%Y-%m-%d %H:%M} UTC")


@app.command()
def unsilence(silence_id: Annotated[int, typer.Argument(metavar="ID", help="Of the silence")]) -> None:
    """End a silence now."""
    from flows.operations import silences

    async def do(connection: Connection[Record]) -> None:
        await silences.end_silence(connection, silence_id)

    _with_warehouse(do)
    console.print("ended; what still fires is sent with the next pass")


@app.command("test")
def try_channels(
    channels: Annotated[list[str] | None, typer.Argument(metavar="[CHANNEL]…", help="Default: all routes'")] = None,
) -> None:
    """Send a message to channels and say which have accepted it. Exit code 3 if one has not."""
    from flows.operations.channels import NotAccepted, need_channel
    from flows.operations.messages import Message
    from flows.sources.alerting import ROUTES
    from flows.values.errors import ConfigurationError
    from flows.values.settings import settings

    prepare(asks_server=False)
    declared = sorted({name for route in ROUTES for name in (*route.channels, *route.escalate_to)})
    text = f"[{settings().environment}] test: this channel receives alerts"
    message = Message("test", "info", text, f"{text}\nSent by `medallion alerts test`.", {"event": "test"})
    refused, missing = False, None
    for name in channels or declared:
        try:
            channel = need_channel(name)
            asyncio.run(channel.send(0, str(uuid4()), message.severity, message.subject, message.body, message.facts))
        except ConfigurationError as problem:
            missing = missing or problem  # the others are tried before it is shown
        except NotAccepted as problem:
            refused = True
            problems.print(f"  [bold red]✗[/] {name}: {problem.what}", highlight=False)
        else:
            console.print(f"  [green]✓[/] {name}: accepted", highlight=False)
    if missing is not None:
        raise missing
    if refused:
        raise typer.Exit(3)


@app.command()
def send() -> None:
    """Write the messages of what has changed, and send those that wait, once."""
    from flows.operations.outbox import Outbox
    from flows.sources.alerting import ROUTES

    done = _with_warehouse(Outbox(ROUTES).work_off)
    console.print(f"{done.written} messages written, {done.sent} sent, {done.refused} not accepted")
    if done.refused:
        raise typer.Exit(3)


def _with_warehouse(do: Callable[[Connection[Record]], Awaitable[Result]]) -> Result:
    from flows.access import addresses
    from flows.state import ledger

    prepare(asks_server=False)

    async def run() -> Result:
        warehouse = addresses.warehouse()
        async with addresses.connect(warehouse, side="warehouse", application="medallion alerts") as connection:
            await ledger.ensure_schema(connection)
            return await do(connection)

    return asyncio.run(run())
