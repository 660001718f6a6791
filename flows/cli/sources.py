"""`medallion preview` and `medallion add`: what a source answers, before it is declared or read."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Literal

import typer

from flows.access import addresses
from flows.cli import source_tables
from flows.cli.terminal import console, problems


def preview(
    endpoint: Annotated[str, typer.Argument(metavar="API.ENDPOINT", help="marketing.coupons")],
    records: Annotated[int, typer.Option("--records", "-n", min=0, help="How many records to show")] = 3,
) -> None:
    """Show an endpoint's first records, how its pages follow and what its fields hold. Writes nothing."""
    from flows.kinds.api.preview import preview_endpoint
    from flows.verbs.find import find_endpoint

    source, declared = find_endpoint(endpoint)
    seen = asyncio.run(preview_endpoint(source, declared, addresses.api(source), records))
    for part in source_tables.preview_parts(endpoint, seen):
        console.print(part)


add = typer.Typer(help="Draft a declaration from what a source answers.", no_args_is_help=True)


@add.command("api")
def add_api(
    url: Annotated[str, typer.Argument(help="The address of a list, such as https://api.example.com/v1/orders")],
    name: Annotated[str, typer.Option(help="What the source is to be called")] = "api",
    auth: Annotated[
        Literal["none", "header", "query", "basic", "bearer"],
        typer.Option(help="How MEDALLION_SOURCE_<NAME>_KEY (and _USER) is sent"),
    ] = "none",
    parameter: Annotated[str | None, typer.Option(help="The key's header or query parameter")] = None,
    write: Annotated[bool, typer.Option("--write", help="Write flows/sources/<name>.py instead of showing it")] = False,
) -> None:
    """Draft an API's declaration from one live answer: records, key, total, pagination."""
    from flows.kinds.api import ApiKeyHeader, ApiKeyQuery, Basic, Bearer, NoAuth
    from flows.kinds.api.declared.auth import Auth
    from flows.kinds.api.preview import draft_api
    from flows.values.identifiers import require_plain
    from flows.values.settings import PROJECT_ROOT

    require_plain(name, "source", "--name")
    kinds: dict[str, Auth] = {
        "none": NoAuth(),
        "header": ApiKeyHeader(parameter or "X-API-Key"),
        "query": ApiKeyQuery(parameter or "api_key"),
        "basic": Basic(),
        "bearer": Bearer(),
    }
    prefix = f"MEDALLION_SOURCE_{name.upper()}"
    text, _ = asyncio.run(
        draft_api(name, url, kinds[auth], os.environ.get(f"{prefix}_KEY"), os.environ.get(f"{prefix}_USER"))
    )
    if not write:
        typer.echo(text)
        return
    path = PROJECT_ROOT / "flows/sources" / f"{name}.py"
    if path.exists():
        problems.print(f"{path.relative_to(PROJECT_ROOT)} is there already; choose another --name")
        raise typer.Exit(2)
    path.write_text(text, encoding="utf-8")
    console.print(
        f"written: {path.relative_to(PROJECT_ROOT)}; look at it, then add {name} to flows/sources/__init__.py"
    )
