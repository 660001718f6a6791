"""`medallion dev`: an analyst's own schemas beside the shared ones."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer

from flows.cli import model_tables
from flows.cli.terminal import console, keep_private, problems

app = typer.Typer(help="Build models in schemas of your own, and see their rows and tests.", no_args_is_help=True)

Models = Annotated[
    list[str] | None, typer.Argument(metavar="[MODEL]...", help="agg_daily_sales; what you edited when left out")
]
Rows = Annotated[int, typer.Option("--rows", "-n", min=0, help="First rows to show of each model")]
Incremental = Annotated[
    bool, typer.Option("--incremental", help="Go on from the last private build instead of building anew")
]
Personal = Annotated[bool, typer.Option("--personal", help="Show values of personal columns, too")]
# How often edits are looked for.
_LOOK_SECONDS = 0.3


@app.command()
def build(models: Models = None, rows: Rows = 5, incremental: Incremental = False, personal: Personal = False) -> None:
    """Build what you edited, test it, and show its first rows. The shared schemas are only read."""
    if not _build(models, rows, incremental, personal):
        raise typer.Exit(1)


@app.command()
def watch(models: Models = None, rows: Rows = 5, incremental: Incremental = False, personal: Personal = False) -> None:
    """Build as `dev build` does, now and after every saved edit. Ctrl-C ends it."""
    from flows.models.project import DBT_PROJECT

    seen: dict[Path, int] = {}
    try:
        while True:
            found = _edited_at(DBT_PROJECT)
            if found != seen:
                seen = found
                _build(models, rows, incremental, personal)
                console.print("[dim]waiting for an edit in dbt_project; Ctrl-C ends[/]")
            time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        console.print()


@app.command("list")
def list_schemas() -> None:
    """List your schemas, with their tables and sizes."""
    from flows.models import dev

    schemas = asyncio.run(dev.private())
    console.print(
        model_tables.private_schemas(schemas) if schemas else "there are none: `medallion dev build` makes them"
    )


@app.command()
def drop() -> None:
    """Drop your schemas and all that is in them. The shared ones are not touched."""
    from flows.models import dev

    dropped = asyncio.run(dev.drop())
    console.print(f"dropped {', '.join(dropped)}" if dropped else "there was nothing to drop")


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
    kinds = {".sql", ".yml", ".csv", ".md"}
    files = (path for path in project.rglob("*") if path.suffix in kinds and "target" not in path.parts)
    return {path: path.stat().st_mtime_ns for path in files if path.is_file()}
