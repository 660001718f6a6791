"""`medallion dashboard`: operations and gold as web pages."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from flows.cli.terminal import console, prepare
from flows.values.settings import settings


def dashboard(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port on 127.0.0.1; 0: any free one")] = 4300,
    add_user: Annotated[
        str, typer.Option("--add-user", metavar="NAME", help="Ask for a password and print an entry; starts nothing")
    ] = "",
    roles: Annotated[
        str, typer.Option("--roles", help="Of --add-user: viewer, operator, analyst, personal, joined by +")
    ] = "viewer",
) -> None:
    """Serve pages of operations and gold on 127.0.0.1, until stopped.

    Without MEDALLION_DASHBOARD_USERS, a link with a token is printed: whoever has it may do all that you may.
    """
    prepare(asks_server=False)
    if add_user:
        console.print(_entry(add_user, roles), markup=False, highlight=False, soft_wrap=True)
        return
    from flows.dashboard.desk import Desk
    from flows.dashboard.people import read_people
    from flows.dashboard.serving import HOST, listen, server

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    people = read_people(settings())
    with listen(port) as opened:
        address = f"http://{HOST}:{opened.getsockname()[1]}/"
        # After the #, which browsers send to nobody.
        link = f"{address}login#token={people.token}" if people.token else address
        console.print(f"dashboard: {link}\nCtrl-C stops it", markup=False, highlight=False, soft_wrap=True)
        server(Desk(people), opened.getsockname()[1]).run(sockets=[opened])


def _entry(name: str, roles: str) -> str:
    from flows.dashboard.people import ROLES, password_hash
    from flows.values.errors import DeclarationError

    unknown = {*roles.split("+")} - ROLES
    if unknown or ":" in name or name.split() != [name]:
        raise DeclarationError(
            f"no such role: {', '.join(sorted(unknown))}" if unknown else "a name has no spaces and no colon",
            where="medallion dashboard --add-user",
            fix=f"roles are {', '.join(sorted(ROLES))}",
        )
    password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return f"{name}:{roles}:{password_hash(password)}"
