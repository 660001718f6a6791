"""Commands that run what the schedule runs: load, build, compare."""

from __future__ import annotations

import asyncio
import getpass
import os
from datetime import datetime
from typing import Annotated, cast

import typer

from flows.cli import source_tables
from flows.cli.terminal import console, importing, prepare
from flows.declare.budget import chosen_budget
from flows.declare.partition import Every
from flows.values.errors import BudgetReached
from flows.values.row_limit import row_limit
from flows.values.settings import settings

SourceNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SOURCE[.TABLE]]...", help="For example shop or shop.baskets; default: all"),
]


RowLimit = Annotated[
    int | None,
    typer.Option("--limit", min=1, metavar="ROWS", help="Load so many rows of each table at most, for development"),
]


MaxRows = Annotated[
    int | None, typer.Option("--max-rows", min=1, help="Budget of the run: stop at a commit after so many rows")
]
MaxBytes = Annotated[str | None, typer.Option("--max-bytes", metavar="SIZE", help="Or after so much, such as '10 GB'")]
MaxMinutes = Annotated[float | None, typer.Option("--max-minutes", help="Or after so many minutes")]
MaxCost = Annotated[float | None, typer.Option("--max-cost", help="Or after so much money, by MEDALLION_PRICE_…")]


def plan(
    sources: SourceNames = None,
    limit: RowLimit = None,
    max_rows: MaxRows = None,
    max_bytes: MaxBytes = None,
    max_minutes: MaxMinutes = None,
    max_cost: MaxCost = None,
) -> None:
    """Show what a run would load and build: tables, cursors, pending rows, budgets, models. Changes nothing."""
    from flows.models.selective.pending import pending_models
    from flows.verbs.find import choose
    from flows.verbs.plan import plan_sources
    from flows.verbs.planned_budgets import planned_budgets

    _limit_rows(limit)
    budget = chosen_budget(max_rows, max_bytes, max_minutes, max_cost)
    with console.status("reading sources and warehouse"):
        lines = asyncio.run(plan_sources(choose(sources)))
        uses = asyncio.run(planned_budgets(lines, budget))
        models = asyncio.run(pending_models())
    console.print(source_tables.plan_table(lines))
    for words, exceeds in source_tables.budget_words(uses):
        style = "bold yellow" if exceeds else None
        console.print(words, style=style, markup=False, highlight=False, soft_wrap=True)
    for words in models.words() if models is not None else ():
        console.print(words, markup=False, highlight=False, soft_wrap=True)
    failed = [line.error for line in lines if line.error is not None]
    if failed:
        raise failed[0]


def run(
    sources: SourceNames = None,
    ingest_only: Annotated[bool, typer.Option("--ingest-only", help="Do not build silver and gold")] = False,
    full_refresh: Annotated[
        bool, typer.Option("--full-refresh", help="Rebuild incremental models from scratch")
    ] = False,
    limit: RowLimit = None,
    max_rows: MaxRows = None,
    max_bytes: MaxBytes = None,
    max_minutes: MaxMinutes = None,
    max_cost: MaxCost = None,
) -> None:
    """Load the sources and build gold, as the schedule does. Exit 4 if a load stopped at a budget."""
    from flows.verbs.find import choose

    _limit_rows(limit)
    chosen = choose(sources)
    budget = chosen_budget(max_rows, max_bytes, max_minutes, max_cost)
    prepare()
    with importing():
        from flows.cli import watch

    if watch.run(chosen, ingest_only=ingest_only, full_refresh=full_refresh, console=console, budget=budget):
        raise typer.Exit(BudgetReached.exit_code)


def _limit_rows(limit: int | None) -> None:
    """As MEDALLION_ROW_LIMIT, for this command.

    Raises:
        ConfigurationError: the environment is production.
    """
    if limit is not None:
        os.environ["MEDALLION_ROW_LIMIT"] = str(limit)
        settings.cache_clear()
    row_limit()


def transform(
    select: Annotated[
        str | None, typer.Option("--select", "-s", help="A dbt selection, for example fct_basket_lines+")
    ] = None,
    full_refresh: Annotated[
        bool, typer.Option("--full-refresh", help="Rebuild incremental models from scratch")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Build everything, not only what has changed")] = False,
    release: Annotated[
        bool,
        typer.Option(
            "--release", help="Build all models in shadow schemas, check them, and swap them in one transaction"
        ),
    ] = False,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Release although readers lose tables, columns or most rows")
    ] = False,
) -> None:
    """Build what has changed in silver and gold, between the two quality gates."""
    if release and (select or full_refresh or full):
        raise typer.BadParameter(
            "a release rebuilds everything, so --select, --full and --full-refresh do not apply", param_hint="--release"
        )
    if accept_changes and not release:
        raise typer.BadParameter("it requires --release", param_hint="--accept-changes")
    prepare()
    with importing():
        from flows.cli import watch

    if release:
        watch.release(accept_changes=accept_changes, console=console)
        return
    watch.transform(select=select, full_refresh=full_refresh, full=full, console=console)


def predict() -> None:
    """Train the churn model on gold, evaluate it on held-out weeks, and publish its scores."""
    prepare()
    with importing():
        from flows.cli import watch

    watch.predict(console=console)


def reconcile(
    sources: SourceNames = None,
    repair: Annotated[bool, typer.Option("--repair", help="Reload the keys that differ")] = False,
) -> None:
    """Compare raw with its sources by content, and find the rows that differ. Exit 1 if any do."""
    from flows.verbs.find import choose

    choose(sources)
    prepare()
    with importing():
        from flows.cli import watch

    watch.reconcile(sources, repair=repair, console=console)


def backfill(
    table: Annotated[str, typer.Argument(metavar="SOURCE.TABLE", help="For example shop.baskets")],
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="The first day")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="The last day, inclusive")],
    by: Annotated[
        str | None, typer.Option("--by", help="The date or timestamp column that partitions the table")
    ] = None,
    every: Annotated[str, typer.Option("--every", help="The length of a partition: day, week, month, year")] = "month",
    restart: Annotated[bool, typer.Option("--restart", help="Also reload partitions that are complete")] = False,
    only_plan: Annotated[bool, typer.Option("--plan", help="Show the partitions; change nothing")] = False,
) -> None:
    """Reload a range of days of one table, partition by partition, in parallel with scheduled loads."""
    prepare()
    with importing():
        from flows.cli import watch

    wanted = watch.Backfill(table, first.date(), last.date(), cast("Every", every), by, restart)
    watch.backfill(wanted, only_plan=only_plan, console=console)


def reload(
    tables: Annotated[list[str], typer.Argument(metavar="SOURCE.TABLE...", help="shop.baskets")],
    recreate: Annotated[
        bool, typer.Option("--recreate", help="Rename the raw table and load a new one, with the source's types of now")
    ] = False,
    only_plan: Annotated[
        bool, typer.Option("--plan", help="Show what the next load would read; change nothing")
    ] = False,
) -> None:
    """Have the next load of a table read all of its rows and write what differs. Deletes nothing."""
    from flows.verbs.reload import request_reload

    if only_plan and recreate:
        raise typer.BadParameter("a new raw table gets all rows, so there is nothing to plan", param_hint="--plan")
    prepare(asks_server=False)
    if only_plan:
        from flows.verbs.cursor import plan_reload

        console.print(source_tables.moves_table(asyncio.run(plan_reload(tables, getpass.getuser()))))
        console.print("[dim]nothing was changed[/]")
        return
    for done in asyncio.run(request_reload(tables, getpass.getuser(), recreate=recreate)):
        kept = f"; the former table is kept as {done.kept_as}" if done.kept_as else ""
        console.print(f"{done.table}: the next load reads all rows{kept}")
    console.print(f"[dim]medallion run {' '.join(tables)} does so now[/]")
