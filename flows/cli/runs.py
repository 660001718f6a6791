"""`medallion runs`: everything that happened under one correlation id."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import typer

from flows.cli import run_tables
from flows.cli.terminal import console, prepare
from flows.values.errors import ConfigurationError

app = typer.Typer(no_args_is_help=True, help="Runs: everything that happened under one correlation id.")
_AsJson = Annotated[bool, typer.Option("--json", help="For programs")]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many")] = 20,
    as_json: _AsJson = False,
) -> None:
    """Show the last runs, the newest first, with their correlation ids."""

    async def read(connection: Any) -> list[dict[str, Any]]:
        from flows.state import correlated

        return await correlated.last_ids(connection, limit)

    found = _with_warehouse(read)
    if as_json:
        typer.echo(json.dumps(found, indent=2, default=str))
    else:
        console.print(run_tables.ids_table(found))


@app.command()
def show(
    identifier: Annotated[
        str, typer.Argument(metavar="ID", help="A correlation id, error id, run number or Prefect flow run id")
    ],
    as_json: _AsJson = False,
) -> None:
    """Show what ran under an id, its errors and alerts, its open sessions, and where else the id is found."""

    async def read(connection: Any) -> tuple[str, dict[str, Any]] | None:
        from flows.state import correlated

        found = await correlated.find_id(connection, identifier)
        return None if found is None else (found, await correlated.everything_of(connection, found))

    answer = _with_warehouse(read)
    if answer is None:
        error = ConfigurationError(
            "no run has this id",
            where=identifier,
            fix="`medallion runs list` shows the last ones; a command that touched no data leaves no run",
        )
        error.exit_code = 2
        raise error
    found, parts = answer
    if as_json:
        typer.echo(json.dumps({"correlation_id": found, **parts}, indent=2, default=str))
        return
    for part in run_tables.parts_of(found, parts):
        console.print(part)


def _with_warehouse(do: Any) -> Any:
    from flows.access import addresses
    from flows.state import ledger

    prepare(asks_server=False)

    async def run() -> Any:
        async with addresses.connect(addresses.warehouse(), side="warehouse", application="medallion runs") as session:
            await ledger.ensure_schema(session)
            return await do(session)

    return asyncio.run(run())
