"""`medallion backup`, `medallion restore` and `medallion drill`: docs/disaster-recovery.md.

What they stand on is imported inside the commands: the packages that encrypt are an extra.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands import backup_tables
from flows.commands.registration import registered
from flows.commands.terminal import console, prepare
from flows.settings import settings

if TYPE_CHECKING:
    from flows.loads.catch_up import CaughtUp
    from infra.backup.catalog import Catalog
    from infra.backup.key import Keys
    from infra.local.home import Home

app = typer.Typer(help="Back up the cluster, its write-ahead log and the embedded stack; sealed, and verified.")

Keep = Annotated[int | None, typer.Option("--keep", min=1, help="Then let go of all but so many of the newest")]
KeepDays = Annotated[
    float | None, typer.Option("--keep-days", min=0, help="Keep what recovery to any moment of so many days needs")
]
Label = Annotated[str | None, typer.Option("--backup", metavar="LABEL", help="From this backup, not the best one")]
Cluster = Annotated[
    str | None, typer.Option("--cluster", help="The cluster's system identifier, where backups of several are kept")
]
SourceNames = Annotated[
    list[str] | None, typer.Argument(metavar="[SOURCE[.TABLE]]...", help="Sources to catch up with; all when left out")
]
NoSources = Annotated[bool, typer.Option("--no-sources", help="Leave raw as it was at that moment; ask no source")]


@app.callback(invoke_without_command=True)
def backup(context: typer.Context, keep: Keep = None, keep_days: KeepDays = None) -> None:
    """Back up the cluster, its write-ahead log and the embedded stack; sealed, and verified."""
    if context.invoked_subcommand is not None:
        return
    from infra.backup.catalog import Catalog
    from infra.backup.key import keys
    from infra.backup.store import open_store
    from infra.backup.take import take

    store, ours = open_store(), keys()
    with console.status("backing up"):
        made = take(store, ours, home=_embedded_home(), on_step=_step)
    console.print(backup_tables.backups_table([made], None))
    if store.on_disk_of(settings().home):
        console.print(
            "[yellow]The backup lies on the disk of the stack's home: whatever takes one may take the other. "
            "MEDALLION_BACKUP_TO names a folder of another disk, or s3://bucket/prefix.[/]"
        )
    _expire(Catalog(store, made.system), keep, keep_days)


@app.command("list")
def list_backups(cluster: Cluster = None) -> None:
    """Show every backup, what can be recovered, and what drills found."""
    from infra.backup import archive
    from infra.backup.key import keys

    catalog = _catalog(cluster)
    backups, mark = catalog.backups(), catalog.watermark()
    known = archive.histories(catalog, keys())
    reached = {backup.label: archive.stretch(catalog, backup, known) for backup in backups}
    console.print(backup_tables.backups_table(backups, mark, reached))
    _tell_what_waits()
    if drills := catalog.drills():
        console.print(backup_tables.drills_table(drills[-5:]))


@app.command()
def verify(
    label: Annotated[str | None, typer.Argument(metavar="[LABEL]", help="The newest when left out")] = None,
    cluster: Cluster = None,
) -> None:
    """Read a backup back, open it, and hold every file and the log against the manifest."""
    from dataclasses import replace
    from datetime import UTC, datetime

    from infra.backup.key import keys
    from infra.backup.target import Target, choose
    from infra.backup.verify import verify as read_back

    catalog = _catalog(cluster)
    chosen = choose(catalog.backups(), Target(), None, label)
    with console.status(f"reading {chosen.label} back"):
        read_back(catalog, chosen, keys())
    catalog.save(replace(chosen, verified_at=datetime.now(UTC)))
    console.print(f"[green]{chosen.label} is what was copied: every file and the log agree with the manifest[/]")


@app.command()
def expire(
    keep: Keep = None,
    keep_days: KeepDays = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
    cluster: Cluster = None,
) -> None:
    """Let go of old backups, and of the log that only they need. The newest always stays."""
    _expire(_catalog(cluster), keep, keep_days, ask=not yes)


@app.command()
def archive() -> None:
    """Follow the cluster's write-ahead log and ship it as it grows, until stopped: a service of yours runs this."""
    from infra.backup import archiver, server
    from infra.backup.catalog import Catalog
    from infra.backup.key import keys
    from infra.backup.store import open_store

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    at, ours, stop = server.address(), keys(), threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    catalog, spool = Catalog(open_store(), server.identify(at).system), archiver.spool_folder()
    # A backup ships the log itself where nobody does; an archiver that is started meanwhile must outlive it.
    told = False
    while not stop.is_set():
        with archiver.hold(spool) as held:
            if held:
                console.print(f"archiving the log of cluster {catalog.system} to {catalog.store.place}")
                archiver.Archiver(at, catalog, ours, spool, settings().backup_interval_seconds).run(stop)
                return
        if not told:
            console.print(f"another process holds {spool}: waiting for its end")
            told = True
        stop.wait(1)


@app.command()
def key(
    file: Annotated[Path, typer.Argument(help="Where to; an older key in it stays below the new one")],
) -> None:
    """Make a key that seals backups. Keep a copy of it elsewhere: without it no backup opens."""
    from infra.backup.key import make

    made = make(file.expanduser().resolve())
    console.print(f"written: {file}, the key {made.name}")
    console.print(f"export MEDALLION_BACKUP_KEY_FILE={file.expanduser().resolve()}", soft_wrap=True)
    console.print("[yellow]Keep a copy away from this machine: without it, no backup can be opened.[/]")


@app.command()
def point(name: Annotated[str, typer.Argument(help="Such as before_migration_7")]) -> None:
    """Mark this moment in the log, so that `medallion restore --to-name` leads back to it."""
    from infra.backup import server

    with server.connect(server.address()) as session:
        row = session.execute("select pg_create_restore_point(%s)::text", [name]).fetchone()
    console.print(f"{name} is at {row[0] if row else '?'}")


def restore(
    sources: SourceNames = None,
    to: Annotated[str | None, typer.Option("--to", help="A moment: '2026-11-26 10:00:00+00'")] = None,
    to_lsn: Annotated[str | None, typer.Option("--to-lsn", help="A position of the log: 0/3000028")] = None,
    to_name: Annotated[str | None, typer.Option("--to-name", help="A mark of `medallion backup point`")] = None,
    timeline: Annotated[int | None, typer.Option("--timeline", help="Of several, this one, not the youngest")] = None,
    label: Label = None,
    cluster: Cluster = None,
    into: Annotated[Path | None, typer.Option("--into", help="Into this folder, and leave it stopped")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Move the cluster that is there aside")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
    no_sources: NoSources = False,
) -> None:
    """Recover to the end of the log or to a moment, then read from the sources what came since."""
    from flows.loads.declared import choose
    from flows.spec.errors import DataRefused
    from infra.backup.restore import restore_embedded, restore_into
    from infra.backup.target import parse_target

    target, chosen = parse_target(to, to_lsn, to_name, timeline), choose(sources)
    catalog, ours = _catalog(cluster), _keys()
    if into is not None:
        done = restore_into(into.expanduser().resolve(), catalog, ours, target, label=label, on_step=_step)
        console.print(backup_tables.restored_table(done))
        console.print(
            f"Start it with the cluster's own configuration: pg_ctl -D {done.data} start; then point "
            "MEDALLION_WAREHOUSE_URL there: `medallion run` reads what came since.",
            soft_wrap=True,
        )
        return
    home = _home()
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
        on_step=_step,
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
            next_move="see why in the table above; `medallion run` loads them again, `medallion reconcile` compares",
        )


def drill(
    sources: SourceNames = None,
    scratch: Annotated[Path | None, typer.Option("--scratch", help="A folder with room for the cluster")] = None,
    cluster: Cluster = None,
    no_sources: NoSources = False,
) -> None:
    """Recover the newest backup aside; measure what would be lost, and how long it takes. Exit 1 above a target."""
    from flows.loads.declared import choose
    from infra.backup import drill as drills

    chosen = None if no_sources else choose(sources)
    within = scratch.expanduser().resolve() if scratch is not None else settings().home
    done = drills.drill(_catalog(cluster), _keys(), sources=chosen, within=within, on_step=_step, on_table=_table)
    if done.tables:
        console.print(backup_tables.tables_table(done.tables))
    console.print(backup_tables.drill_table(done))
    console.print(backup_tables.verdict(done))
    drills.refuse_missed(done)


def _tell_what_waits() -> None:
    """How much log the server keeps for the archiver, where it can be asked."""
    from flows.spec.errors import MedallionError
    from infra.backup import server

    with suppress(MedallionError), server.connect(server.address()) as session:
        slot = server.slot(session)
        if slot is None or not slot.active:
            console.print("[yellow]Nobody archives the log now: what is committed is not safe until somebody does.[/]")
        if slot is not None:
            console.print(f"The server keeps {slot.kept_bytes / 1024**2:,.0f} MB of log for the archiver.")


def _register(home: Home) -> None:
    """Let the blocks that came back name the addresses of now."""
    from infra.local.stack import Stack

    os.environ["PREFECT_API_URL"] = Stack.load(home).prefect.api_url
    prepare()
    for line in registered():
        if not line.startswith("unchanged"):
            _step(line)


def _expire(catalog: Catalog, keep: int | None, keep_days: float | None, *, ask: bool = False) -> None:
    from infra.backup import retention

    expiry = retention.plan(catalog, keep=keep, days=keep_days)
    if not expiry.expired and not expiry.log:
        if ask:
            console.print("nothing to let go of: say what is to stay with --keep or --keep-days")
        return
    console.print(backup_tables.expiry_words(expiry))
    if ask:
        typer.confirm("Delete it?", abort=True)
    retention.expire(catalog, expiry)


def _catalog(cluster: str | None) -> Catalog:
    from infra.backup.catalog import open_catalog
    from infra.backup.store import open_store

    return open_catalog(open_store(), cluster)


def _keys() -> Keys:
    from infra.backup.key import keys

    return keys()


def _home() -> Home:
    from infra.local.home import Home

    return Home(settings().home)


def _embedded_home() -> Home | None:
    """The embedded stack's home, when it is the embedded cluster that is backed up."""
    return None if settings().backup_url is not None else _home()


def _step(text: str) -> None:
    console.print(f"  [green]✓[/] {text}", highlight=False)


def _table(line: CaughtUp) -> None:
    mark = "[green]✓[/]" if line.agrees else "[bold red]✗[/]"
    why = line.error.what if line.error is not None else f"{line.verdict}, {line.rows_read:,} rows read again"
    console.print(f"  {mark} {line.table:<28} [dim]{why}, {line.seconds:.1f} s[/]", highlight=False)
