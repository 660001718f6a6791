"""`medallion model`: new models, and the conventions all models keep."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli import model_tables
from flows.cli.terminal import console, keep_private, problems

app = typer.Typer(help="Begin a model, and check that all keep the conventions.", no_args_is_help=True)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="agg_store_sales")],
    layer: Annotated[Literal["silver", "gold"], typer.Option(help="The folder it goes into")],
    origin: Annotated[str, typer.Option("--from", metavar="MODEL", help="The model to begin with, fct_basket_lines")],
    by: Annotated[
        list[str] | None, typer.Option(help="Columns that tell its rows apart, once each; amounts are summed over them")
    ] = None,
) -> None:
    """Write a new model's files, with columns, types and descriptions of the model it begins with."""
    from flows.models.new import new_model
    from flows.values.settings import PROJECT_ROOT

    for path in asyncio.run(new_model(name, layer, origin, by or ())):
        console.print(f"  written: {path.relative_to(PROJECT_ROOT)}")
    console.print(f"Edit it, then see its rows and tests: medallion dev build {name}")


@app.command()
def check() -> None:
    """Check conventions and tell how much is described and tested. Needs no database."""
    from flows.models.conventions import check_conventions

    with console.status("reading the project"):
        verdict = check_conventions()
    if verdict.problem:
        problems.print(model_tables.problem_panel(verdict.problem))
        raise typer.Exit(2)
    console.print(model_tables.coverage_table(verdict.layers))
    if verdict.gaps:
        problems.print(model_tables.gaps_table(verdict.gaps))
        raise typer.Exit(2)
    console.print("[green]the conventions hold[/]")


def docs(
    out: Annotated[Path | None, typer.Option("--out", help="The folder; .medallion/docs when left out")] = None,
) -> None:
    """Write the models' documents and the lineage of every column, as pages that open anywhere."""
    from flows.models.docs import write_docs
    from flows.values.settings import settings

    if out is None:
        keep_private()
    with console.status("reading project and warehouse"):
        pages = write_docs(out or settings().home / "docs")
    for page in pages:
        console.print(f"  written: {page}", soft_wrap=True)
