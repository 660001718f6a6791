"""Links to the embedded services."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group

from flows.observe.look import grid

if TYPE_CHECKING:
    from infra.local.stack import Stack


def addresses(stack: Stack) -> Group:
    """Links and how to log in, without passwords."""
    table = grid("Links", ["what", "where"])
    table.add_row("Prefect: runs, logs, artifacts", stack.prefect.ui_url)
    table.add_row("the password of its pages", "medallion env PREFECT_API_AUTH_STRING")
    table.add_row("PostgreSQL: databases warehouse and shop", f"127.0.0.1:{stack.postgres.port}")
    table.add_row("gold, as a reader", 'psql "$(medallion url)"')
    if stack.commerce is not None:
        table.add_row("commerce API", stack.commerce.url)
    return Group(table)
