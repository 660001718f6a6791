"""`medallion restore` and `medallion drill`: docs/disaster-recovery.md.

What they stand on is imported inside the commands: the packages that encrypt are an extra.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import backup_tables
from flows.cli.backup import ClusterOption, catalog_of, step
from flows.cli.registration import registered
from flows.cli.terminal import console, keep_private, prepare
from flows.values.settings import settings

if TYPE_CHECKING:
    from flows.verbs.catch_up import CaughtUp
    from infra.local.home import Home

Label = Annotated[str | None, typer.Option("--backup", metavar="LABEL", help="From this backup, not the best one")]
SourceNames = Annotated[
    list[str] | None, typer.Argument(metavar="[SOURCE[.TABLE]]...", help="Sources to catch up with; all when left out")
]
NoSources = Annotated[bool, typer.Option("--no-sources", help="Leave raw as it was at that moment; ask no source")]


def restore(
    sources: SourceNames = None,
    to: Annotated[str | None, typer.Option("--to", help="A moment: '2026-11-26 10:00:00+00'")] = None,
    to_lsn: Annotated[str | None, typer.Option("--to-lsn", help="A position of the log: 0/3000028")] = None,
    to_name: Annotated[str | None, typer.Option("--to-name", help="A mark of `medallion backup point`")] = None,
    timeline: Annotated[int | None, typer.Option("--timeline", help="Of several, this one, not the youngest")] = None,
    label: Label = None,
    cluster: ClusterOption = None,
    into: Annotated[Path | None, typer.Option("--into", help="Into this folder, and leave it stopped")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Move the cluster that is there aside")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
    no_sources: NoSources = False,
) -> None:
    """Recover to the end of the log or to a moment, then read from the sources what came since."""
    from flows.values.errors import DataRefused
    from flows.verbs.find import choose
    from infra.backup.key import keys
    from infra.backup.restore import restore_embedded, restore_into
    from infra.backup.target import parse_target
    from infra.local.home import Home

    keep_private()
    target, chosen = parse_target(to, to_lsn, to_name, timeline), choose(sources)
    catalog, ours = catalog_of(cluster), keys()
    if into is not None:
        done = restore_into(into.expanduser().resolve(), catalog, ours, target, label=label, on_step=step)
        console.print(backup_tables.restored_table(done))
        console.print(
            f"Start it with the cluster's own configuration: pg_ctl -D {done.data} start; then point "
            "MEDALLION_WAREHOUSE_URL there: `medallion run` reads what came since.",
            soft_wrap=True,
        )
        return
    home = Home(settings().home)
    if replace and home.has_cluster() and not yes:
        typer.confirm(f"Put {home.postgres} back to {target}? What is there is moved aside and kept", abort=True)
    done = restore_embedded(
        home,
        catalog,
        ours,
        target,
        label=label,
        replace=replace,
        sources=None if no_sources else chosen,
        on_step=step,
        on_table=_table,
    )
    if done.tables:
        console.print(backup_tables.tables_table(done.tables))
    console.print(backup_tables.restored_table(done))
    _register(home)
    console.print("`medallion transform` builds gold from it; `medallion backup` begins its own line of backups.")
    if differing := [line.table for line in done.tables if not line.agrees]:
        raise DataRefused(
            f"the cluster is back, but these could not be brought up to date: {', '.join(differing)}",
            where="restore",
            fix="see why in the table above; `medallion run` loads them again, `medallion reconcile` compares",
        )


def drill(
    sources: SourceNames = None,
    scratch: Annotated[Path | None, typer.Option("--scratch", help="A folder with room for the cluster")] = None,
    cluster: ClusterOption = None,
    no_sources: NoSources = False,
) -> None:
    """Recover the newest backup aside; measure what would be lost, and how long it takes. Exit 1 above a target."""
    from flows.verbs.find import choose
    from infra.backup import drill as drills
    from infra.backup.key import keys

    keep_private()
    chosen = None if no_sources else choose(sources)
    within = scratch.expanduser().resolve() if scratch is not None else settings().home
    done = drills.drill(catalog_of(cluster), keys(), sources=chosen, within=within, on_step=step, on_table=_table)
    if done.tables:
        console.print(backup_tables.tables_table(done.tables))
    console.print(backup_tables.drill_table(done))
    console.print(backup_tables.verdict(done))
    drills.refuse_missed(done)


def _register(home: Home) -> None:
    """Let the blocks that came back name the addresses of now."""
    from infra.local.stack import Stack

    os.environ["PREFECT_API_URL"] = Stack.load(home).prefect.api_url
    prepare()
    for line in registered():
        if not line.startswith("unchanged"):
            step(line)


def _table(line: CaughtUp) -> None:
    mark = "[green]✓[/]" if line.agrees else "[bold red]✗[/]"
    why = line.error.what if line.error is not None else f"{line.verdict}, {line.rows_read:,} rows read again"
    console.print(f"  {mark} {line.table:<28} [dim]{why}, {line.seconds:.1f} s[/]", highlight=False)
