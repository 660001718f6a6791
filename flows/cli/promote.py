"""`medallion promote`: promote a commit from one environment to the next, after gates and an approval."""

from __future__ import annotations

import asyncio
import getpass
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from flows.cli.terminal import console, problems
from flows.observe import look
from flows.values.connection import DatabaseConnection
from flows.values.errors import ConfigurationError
from flows.values.settings import settings

if TYPE_CHECKING:
    from deployments.promotion import GateResult, Promotion

_STYLES = {"passed": "green", "told": "yellow", "refused": "bold magenta"}


def promote(
    environment: Annotated[str, typer.Argument(help="The target: staging or production")],
    evidence: Annotated[
        Path | None, typer.Option("--evidence", help="JUnit XML of the commit's tests: junit-<commit>.xml")
    ] = None,
    approved_by: Annotated[
        str | None, typer.Option("--approved-by", help="Who approves; prompted for on a terminal")
    ] = None,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Accept that gold loses tables or columns there")
    ] = False,
) -> None:
    """Check the promotion gates, record the decision, and print the next steps. Exit 1 if a gate refuses."""
    from deployments.promotion import examine, write_down

    promotes_from = _known(environment)
    origin = _origin(promotes_from)

    async def look_again() -> Promotion:
        return await examine(environment, promotes_from, origin, evidence, accept_changes=accept_changes)

    with console.status(f"reading {promotes_from}"):
        found = asyncio.run(look_again())
    console.print(_table(found))
    if found.open and approved_by is None and sys.stdin.isatty():
        approved_by = typer.prompt(f"Type your name to approve {found.commit[:12]} for {environment}").strip() or None
        # Somebody reads for a while: what is recorded is what was shown.
        changed = asyncio.run(look_again()).changed_since(found) if approved_by else []
        if changed:
            problems.print(f"nothing was promoted: changed since it was shown: {', '.join(changed)}; run it again")
            raise typer.Exit(1)
    number = asyncio.run(write_down(found, approved_by, getpass.getuser()))
    if not found.open or not approved_by:
        problems.print(
            f"promotion {number} was refused: "
            + (_names(found.gates) if not found.open else "it was not approved; pass --approved-by NAME")
        )
        raise typer.Exit(1)
    console.print(
        f"promotion {number}: {found.commit[:12]} may go to {environment}, approved by {approved_by}. Next steps:"
    )
    for line in _next_steps(found):
        console.print(f"  {line}", highlight=False)


def _known(environment: str) -> str:
    from deployments.environments import ENVIRONMENTS

    found = next((declared for declared in ENVIRONMENTS if declared.name == environment), None)
    if found is None or found.promotes_from is None:
        targets = ", ".join(declared.name for declared in ENVIRONMENTS if declared.promotes_from)
        raise typer.BadParameter(f"nothing is promoted to it; choose one of {targets}", param_hint="ENVIRONMENT")
    if settings().environment != environment:
        error = ConfigurationError(
            f"this process runs in {settings().environment}, so its warehouse is not that of {environment}",
            where="MEDALLION_ENVIRONMENT",
            fix=f"set it to {environment}, together with that environment's connection URLs",
        )
        error.exit_code = 2
        raise error
    return found.promotes_from


def _origin(promotes_from: str) -> DatabaseConnection:
    address = settings().promote_from_url
    if address is None:
        error = ConfigurationError(
            f"the connection URL of {promotes_from}'s warehouse is not configured",
            where="MEDALLION_PROMOTE_FROM_URL",
            fix=f"set it to the connection URL of {promotes_from}'s warehouse with the transformer role",
        )
        error.exit_code = 2
        raise error
    return DatabaseConnection(f"warehouse of {promotes_from}", address.get_secret_value())


def _table(found: Promotion) -> Table:
    table = look.grid(
        f"{found.promoted_from} → {found.environment}: commit {found.commit[:12]}, models {found.models}",
        ["gate", "outcome", "evidence"],
    )
    for gate in found.gates:
        table.add_row(gate.gate, Text(gate.outcome, style=_STYLES[gate.outcome]), gate.evidence)
    return table


def _names(gates: Sequence[GateResult]) -> str:
    return ", ".join(gate.gate for gate in gates if gate.outcome == "refused")


def _next_steps(found: Promotion) -> list[str]:
    deploy = f"medallion deploy {found.environment}"
    width = len("medallion transform --release")
    upgrade = [f"{'medallion migrate':<{width}}  # with the work pool paused"] if found.pending_upgrade else []
    return [
        *upgrade,
        f"{deploy:<{width}}  # flows and schedules at this commit",
        f"{'medallion transform --release':<{width}}  # build models in shadow schemas, check, swap",
    ]
