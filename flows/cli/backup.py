"""`medallion backup`: docs/disaster-recovery.md.

What they stand on is imported inside the commands: the packages that encrypt are an extra.
"""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import backup_tables
from flows.cli.terminal import console, keep_private
from flows.values.settings import settings

if TYPE_CHECKING:
    from infra.backup.catalog import Catalog

app = typer.Typer(help="Back up the cluster, its write-ahead log and the embedded stack; sealed, and verified.")

Keep = Annotated[int | None, typer.Option("--keep", min=1, help="Then let go of all but so many of the newest")]
KeepDays = Annotated[
    float | None, typer.Option("--keep-days", min=0, help="Keep what recovery to any moment of so many days needs")
]
ClusterOption = Annotated[
    str | None, typer.Option("--cluster", help="The cluster's system identifier, where backups of several are kept")
]


@app.callback(invoke_without_command=True)
def backup(context: typer.Context, keep: Keep = None, keep_days: KeepDays = None) -> None:
    """Back up the cluster, its write-ahead log and the embedded stack; sealed, and verified."""
    keep_private()
    if context.invoked_subcommand is not None:
        return
    from infra.backup.catalog import Catalog
    from infra.backup.embedded import embedded_home
    from infra.backup.key import keys
    from infra.backup.store import open_store
    from infra.backup.take import take

    store, ours = open_store(), keys()
    with console.status("backing up"):
        made = take(store, ours, home=embedded_home(), on_step=step)
    console.print(backup_tables.backups_table([made], None))
    if store.on_disk_of(settings().home):
        console.print(
            "[yellow]The backup lies on the disk of the stack's home: whatever takes one may take the other. "
            "MEDALLION_BACKUP_TO names a folder of another disk, or s3://bucket/prefix.[/]"
        )
    _expire(Catalog(store, made.system), keep, keep_days)


@app.command("list")
def list_backups(cluster: ClusterOption = None) -> None:
    """Show every backup, what can be recovered, and what drills found."""
    from infra.backup import archive
    from infra.backup.key import keys

    catalog = catalog_of(cluster)
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
    cluster: ClusterOption = None,
) -> None:
    """Read a backup back, open it, and hold every file and the log against the manifest."""
    from dataclasses import replace
    from datetime import UTC, datetime

    from infra.backup.key import keys
    from infra.backup.target import Target, choose
    from infra.backup.verify import verify as read_back

    catalog = catalog_of(cluster)
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
    cluster: ClusterOption = None,
) -> None:
    """Let go of old backups, and of the log that only they need. The newest always stays."""
    _expire(catalog_of(cluster), keep, keep_days, ask=not yes)


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


def _tell_what_waits() -> None:
    """How much log the server keeps for the archiver, where it can be asked."""
    from flows.values.errors import MedallionError
    from infra.backup import server

    with suppress(MedallionError), server.connect(server.address()) as session:
        slot = server.slot(session)
        if slot is None or not slot.active:
            console.print("[yellow]Nobody archives the log now: what is committed is not safe until somebody does.[/]")
        if slot is not None:
            console.print(f"The server keeps {slot.kept_bytes / 1024**2:,.0f} MB of log for the archiver.")


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


def catalog_of(cluster: str | None) -> Catalog:
    """What the store holds of a cluster, by its system identifier; None is the one backed up last.

    Raises:
        StoreFailed: the store's place is neither a folder nor an address of S3.
        NoBackup: nothing is kept there.
    """
    from infra.backup.catalog import open_catalog
    from infra.backup.store import open_store

    return open_catalog(open_store(), cluster)


def step(text: str) -> None:
    """Tell that a part of a long command is done."""
    console.print(f"  [green]✓[/] {text}", highlight=False)
