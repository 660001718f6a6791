"""`medallion restore` and `medallion drill`: docs/disaster-recovery.md.

infra.backup is imported inside the commands, because the encryption packages are an extra.
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
from flows.values.errors import DataRefused
from flows.values.settings import settings

if TYPE_CHECKING:
    from flows.verbs.catch_up import CaughtUp
    from infra.local.home import Home

Label = Annotated[
    str | None,
    typer.Option("--backup", metavar="LABEL", help="Recover from this backup instead of the most suitable one"),
]
SourceNames = Annotated[
    list[str] | None, typer.Argument(metavar="[SOURCE[.TABLE]]...", help="Sources to catch up with; default: all")
]
NoSources = Annotated[bool, typer.Option("--no-sources", help="Leave raw as of that moment; do not read sources")]


def restore(
    sources: SourceNames = None,
    to: Annotated[str | None, typer.Option("--to", help="A timestamp: '2026-11-26 10:00:00+00'")] = None,
    to_lsn: Annotated[str | None, typer.Option("--to-lsn", help="A WAL position (LSN): 0/3000028")] = None,
    to_name: Annotated[
        str | None, typer.Option("--to-name", help="A restore point made by `medallion backup point`")
    ] = None,
    timeline: Annotated[int | None, typer.Option("--timeline", help="A timeline other than the latest")] = None,
    label: Label = None,
    cluster: ClusterOption = None,
    into: Annotated[Path | None, typer.Option("--into", help="Recover into this folder and do not start it")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Move the existing cluster aside")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation")] = False,
    no_sources: NoSources = False,
) -> None:
    """Recover to the end of the WAL or to a moment, then load what changed at the sources since."""
    from flows.verbs.find import choose
    from infra.backup.key import keys
    from infra.backup.recover import Recovery
    from infra.backup.restore import restore_embedded, restore_into
    from infra.backup.target import parse_target
    from infra.local.home import Home

    keep_private()
    target, chosen = parse_target(to, to_lsn, to_name, timeline), choose(sources)
    recovery = Recovery(catalog_of(cluster), keys(), target, label)
    if into is not None:
        done = restore_into(into.expanduser().resolve(), recovery, on_step=step)
        console.print(backup_tables.restored_table(done))
        console.print(
            f"Start it with the cluster's own configuration: pg_ctl -D {done.data} start; then point "
            "MEDALLION_WAREHOUSE_URL to it and run `medallion erase --again`, which erases people again who had been "
            "erased after that moment, and `medallion run`, which loads what changed at the sources since.",
            soft_wrap=True,
        )
        return
    home = Home(settings().home)
    if replace and home.has_cluster() and not yes:
        typer.confirm(f"Recover {home.postgres} to {target}? The existing cluster is moved aside and kept", abort=True)
    done = restore_embedded(
        home,
        recovery,
        replace=replace,
        sources=None if no_sources else chosen,
        on_step=step,
        on_table=_table,
    )
    if done.tables:
        console.print(backup_tables.tables_table(done.tables))
    console.print(backup_tables.restored_table(done))
    _register(home)
    _erase_again()
    console.print(
        "Next: `medallion transform` builds gold; `medallion backup` makes the first backup of the new timeline."
    )
    if differing := [line.table for line in done.tables if not line.agrees]:
        raise DataRefused(
            f"the cluster was recovered, but these tables could not be brought up to date: {', '.join(differing)}",
            where="restore",
            fix="see the reasons in the table above; `medallion run` loads them, `medallion reconcile` compares them",
        )


def drill(
    sources: SourceNames = None,
    scratch: Annotated[Path | None, typer.Option("--scratch", help="A folder with room for the cluster")] = None,
    cluster: ClusterOption = None,
    no_sources: NoSources = False,
) -> None:
    """Recover the newest backup into a scratch folder, and measure RPO and RTO. Exit 1 if a target is missed."""
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


def _erase_again() -> None:
    """Whom the cluster has again because it is as it was before they were erased."""
    import asyncio

    from flows.cli.erase_places import elsewhere
    from flows.privacy.again import erase_again

    done = asyncio.run(erase_again(elsewhere=elsewhere()))
    if done:
        step(f"erased {len(done)} people again who had been erased after that moment")
    if not all(one.proven for one in done):
        raise DataRefused(
            "the cluster was recovered, but something is left of people who had been erased",
            where="restore",
            fix="run `medallion erase --again`, which erases them again and lists what is left",
        )


def _register(home: Home) -> None:
    """Update the recovered blocks to the current connection URLs."""
    from infra.local.stack import Stack

    os.environ["PREFECT_API_URL"] = Stack.load(home).prefect.api_url
    prepare()
    for line in registered():
        if not line.startswith("unchanged"):
            step(line)


def _table(line: CaughtUp) -> None:
    mark = "[green]✓[/]" if line.agrees else "[bold red]✗[/]"
    why = line.error.what if line.error is not None else f"{line.result}, {line.rows_read:,} rows read"
    console.print(f"  {mark} {line.table:<28} [dim]{why}, {line.seconds:.1f} s[/]", highlight=False)
