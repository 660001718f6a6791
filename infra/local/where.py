"""Where the embedded services listen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group

from flows.observe.look import grid

if TYPE_CHECKING:
    from infra.local.stack import Stack


def addresses(stack: Stack) -> Group:
    """Where to look, and how to get in; passwords stay in the file."""
    table = grid("Where to look", ["what", "address"])
    table.add_row("Prefect: runs, logs, artifacts", stack.prefect.ui_url)
    table.add_row("the password its pages ask for", "medallion env PREFECT_API_AUTH_STRING")
    table.add_row("PostgreSQL: databases warehouse and shop", f"127.0.0.1:{stack.postgres.port}")
    table.add_row("gold, as a reader", 'psql "$(medallion url)"')
    if stack.commerce is not None:
        table.add_row("commerce API", stack.commerce.url)
    return Group(table)
