"""`medallion preview` and `medallion add`: look at a source before it is declared or loaded."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Literal

import typer

from flows.cli import source_tables
from flows.cli.terminal import console, problems


def preview(
    endpoint: Annotated[str, typer.Argument(metavar="API.ENDPOINT", help="For example marketing.coupons")],
    records: Annotated[int, typer.Option("--records", "-n", min=0, help="How many records to show")] = 3,
) -> None:
    """Show an endpoint's first records, pagination and fields. Writes nothing."""
    from flows.verbs.preview import preview as look

    seen = asyncio.run(look(endpoint, records))
    for part in source_tables.preview_parts(endpoint, seen):
        console.print(part)


add = typer.Typer(help="Draft a declaration from a source's response, or from a file.", no_args_is_help=True)


@add.command("api")
def add_api(
    url: Annotated[str, typer.Argument(help="The URL of a list, for example https://api.example.com/v1/orders")],
    name: Annotated[str, typer.Option(help="The source's name")] = "api",
    auth: Annotated[
        Literal["none", "header", "query", "basic", "bearer"],
        typer.Option(help="How MEDALLION_SOURCE_<NAME>_KEY (and _USER) is sent"),
    ] = "none",
    parameter: Annotated[str | None, typer.Option(help="The key's header or query parameter")] = None,
    write: Annotated[bool, typer.Option("--write", help="Write flows/sources/<name>.py instead of showing it")] = False,
) -> None:
    """Draft an API's declaration from one live response: records, key, total, pagination."""
    from flows.values.identifiers import require_plain
    from flows.verbs.preview import draft

    require_plain(name, "source", "--name")
    prefix = f"MEDALLION_SOURCE_{name.upper()}"
    text = asyncio.run(
        draft("api", name, url, auth, parameter, os.environ.get(f"{prefix}_KEY"), os.environ.get(f"{prefix}_USER"))
    )
    _show_or_write(name, text, write)


@add.command("files")
def add_files(
    path: Annotated[str, typer.Argument(help="One of the files that are dropped, for example in/2026-01-31.csv.gz")],
    name: Annotated[str, typer.Option(help="The source's name")] = "files",
    write: Annotated[bool, typer.Option("--write", help="Write flows/sources/<name>.py instead of showing it")] = False,
) -> None:
    """Draft a declaration from a file of delimited text: dialect, columns, and types that hold for all of its rows."""
    from flows.values.identifiers import require_plain
    from flows.verbs.preview import draft

    require_plain(name, "source", "--name")
    _show_or_write(name, asyncio.run(draft("files", name, path, "none", None, None, None)), write)


@add.command("debezium")
def add_debezium(
    path: Annotated[str, typer.Argument(help="A file of change events, for example events/orders.jsonl")],
    name: Annotated[str, typer.Option(help="The source's name")] = "events",
    write: Annotated[bool, typer.Option("--write", help="Write flows/sources/<name>.py instead of showing it")] = False,
) -> None:
    """Draft a declaration from a file of Debezium's change events: topics, keys, and columns without a schema."""
    from flows.values.identifiers import require_plain
    from flows.verbs.preview import draft

    require_plain(name, "source", "--name")
    _show_or_write(name, asyncio.run(draft("debezium", name, path, "none", None, None, None)), write)


def _show_or_write(name: str, text: str, write: bool) -> None:
    from flows.values.settings import PROJECT_ROOT

    if not write:
        typer.echo(text)
        return
    path = PROJECT_ROOT / "flows/sources" / f"{name}.py"
    if path.exists():
        problems.print(f"{path.relative_to(PROJECT_ROOT)} already exists; choose another --name")
        raise typer.Exit(2)
    path.write_text(text, encoding="utf-8")
    console.print(f"written: {path.relative_to(PROJECT_ROOT)}; review it, then add {name} to flows/sources/__init__.py")
