"""`medallion dev`: an analyst's private schemas."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer

from flows.cli import model_tables
from flows.cli.terminal import console, keep_private, problems

app = typer.Typer(help="Build models in private schemas, and see their rows and test results.", no_args_is_help=True)

Models = Annotated[
    list[str] | None, typer.Argument(metavar="[MODEL]...", help="For example agg_daily_sales; default: edited models")
]
Rows = Annotated[int, typer.Option("--rows", "-n", min=0, help="Rows to show per model")]
Incremental = Annotated[
    bool, typer.Option("--incremental", help="Continue from the last private build instead of building from scratch")
]
Personal = Annotated[bool, typer.Option("--personal", help="Also show the values of personal columns")]
# How often the project is checked for edits.
_LOOK_SECONDS = 0.3


@app.command()
def build(models: Models = None, rows: Rows = 5, incremental: Incremental = False, personal: Personal = False) -> None:
    """Build and test edited models, and show their first rows. Shared schemas are only read."""
    if not _build(models, rows, incremental, personal):
        raise typer.Exit(1)


@app.command()
def watch(models: Models = None, rows: Rows = 5, incremental: Incremental = False, personal: Personal = False) -> None:
    """Run `dev build` now and after every saved edit, until Ctrl-C."""
    from flows.models.project import DBT_PROJECT

    seen: dict[Path, int] = {}
    try:
        while True:
            found = _edited_at(DBT_PROJECT)
            if found != seen:
                seen = found
                _build(models, rows, incremental, personal)
                console.print("[dim]waiting for an edit in dbt_project; Ctrl-C stops[/]")
            time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        console.print()


@app.command("list")
def list_schemas() -> None:
    """List your private schemas with their tables and sizes."""
    from flows.models import dev

    schemas = asyncio.run(dev.private())
    console.print(
        model_tables.private_schemas(schemas)
        if schemas
        else "you have no private schemas; `medallion dev build` creates them"
    )


@app.command()
def drop() -> None:
    """Drop your private schemas and their contents. Shared schemas are not touched."""
    from flows.models import dev

    dropped = asyncio.run(dev.drop())
    console.print(f"dropped {', '.join(dropped)}" if dropped else "nothing to drop")


def _build(models: list[str] | None, rows: int, incremental: bool, personal: bool) -> bool:
    keep_private()
    with console.status("building"):
        from flows.models import dev

        built = asyncio.run(dev.build(models or (), rows=rows, incremental=incremental, personal=personal))
    if built.invocation.problem:
        problems.print(model_tables.problem_panel(built.invocation.problem))
        return False
    for part in model_tables.build_parts(built, console.width):
        console.print(part)
    return built.invocation.ok


def _edited_at(project: Path) -> dict[Path, int]:
    from flows.models.fingerprint import project_files

    kinds = {".sql", ".yml", ".csv", ".md"}
    return {path: path.stat().st_mtime_ns for path in project_files(project, kinds)}
