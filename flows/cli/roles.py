"""`medallion url` and `medallion rotate`: a role of the warehouse, its address and its password."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.access import addresses
from flows.cli.terminal import console, prepare


def url(
    role: Annotated[addresses.Role, typer.Option(help="Whose address")] = "reader",
) -> None:
    """Print the warehouse's address for a role, with its password: psql "$(medallion url)"."""
    typer.echo(addresses.warehouse(role).url)


def rotate(
    role: Annotated[addresses.Role, typer.Argument(help="Whose password")],
    now: Annotated[bool, typer.Option("--now", help="End the former password too: it got into wrong hands")] = False,
) -> None:
    """Give a role of the warehouse another account and password; what is at work goes on with the one before."""
    prepare(asks_server=False)
    stack = addresses.embedded_stack()
    if stack is not None and stack["urls"].get(f"warehouse_{role}") == addresses.warehouse(role).url:
        from infra.local.stack import rotate as rotate_embedded

        done = rotate_embedded(role, now=now)
    else:
        from flows.access.rotation import rotate_block

        done = rotate_block(role, now=now)
    console.print(f"the {role} comes as {done.account} from now on")
    if not now:
        console.print(f"{done.former} goes on working until the next rotation")
