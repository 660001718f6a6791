"""`medallion url` and `medallion rotate`: a warehouse role's connection URL and password."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.access import addresses
from flows.cli.terminal import console, prepare


def url(
    role: Annotated[addresses.Role, typer.Option(help="The role")] = "reader",
) -> None:
    """Print a role's connection URL of the warehouse, with its password: psql "$(medallion url)"."""
    typer.echo(addresses.warehouse(role).url)


def rotate(
    role: Annotated[addresses.Role, typer.Argument(help="The role")],
    now: Annotated[bool, typer.Option("--now", help="Revoke the old password too, for a leaked password")] = False,
) -> None:
    """Rotate a warehouse role's account and password. Running sessions keep the old one until the next rotation."""
    prepare(asks_server=False)
    stack = addresses.embedded_stack()
    if stack is not None and stack["urls"].get(f"warehouse_{role}") == addresses.warehouse(role).url:
        from infra.local.stack import rotate as rotate_embedded

        done = rotate_embedded(role, now=now)
    else:
        from flows.access.rotation import rotate_block

        done = rotate_block(role, now=now)
    console.print(f"role {role} now logs in as {done.account}")
    if not now:
        console.print(f"{done.former} stays valid until the next rotation")
