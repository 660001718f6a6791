"""`medallion model`: create models, and check their conventions."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli import model_tables
from flows.cli.terminal import console, keep_private, problems

app = typer.Typer(help="Create a model, and check the conventions of all models.", no_args_is_help=True)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The model's name, for example agg_store_sales")],
    layer: Annotated[
        Literal["staging", "silver", "gold", "snapshot", "seed"], typer.Option(help="The layer, and so its folder")
    ],
    origin: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="What it reads: a model such as fct_basket_lines; for staging a table such as shop.baskets, for a "
            "seed a CSV file",
        ),
    ],
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="A column of its grain, or of the key of a snapshot or seed; repeat per column. Amounts of a new "
            "model are summed over the grain"
        ),
    ] = None,
) -> None:
    """Write the files of a new model, snapshot or seed, with the columns, types and descriptions of what it reads."""
    from flows.models.new import new_model
    from flows.render.gold_contracts import write_gold_contract
    from flows.values.settings import PROJECT_ROOT

    written = asyncio.run(new_model(name, layer, origin, by or ()))
    if layer == "gold":
        written.append(write_gold_contract(name))
    for path in written:
        console.print(f"  written: {path.relative_to(PROJECT_ROOT)}")
    console.print(f"Edit it, then see its rows and tests: medallion dev build {name}")


@app.command()
def check() -> None:
    """Check conventions, and show how much is described and tested. Needs no database."""
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
    console.print("[green]all models follow the conventions[/]")


def docs(
    out: Annotated[Path | None, typer.Option("--out", help="The folder; default: .medallion/docs")] = None,
) -> None:
    """Write the models' documentation and column lineage as static HTML pages."""
    from flows.models.docs import write_docs
    from flows.values.settings import settings

    if out is None:
        keep_private()
    with console.status("reading project and warehouse"):
        pages = write_docs(out or settings().home / "docs")
    for page in pages:
        console.print(f"  written: {page}", soft_wrap=True)
