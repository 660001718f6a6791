"""`medallion backup`: docs/disaster-recovery.md.

infra.backup is imported inside the commands, because the encryption packages are an extra.
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

app = typer.Typer(help="Back up the cluster, its write-ahead log (WAL) and the embedded stack; encrypted and verified.")

Keep = Annotated[int | None, typer.Option("--keep", min=1, help="Then delete all but this many of the newest")]
KeepDays = Annotated[
    float | None,
    typer.Option("--keep-days", min=0, help="Keep what recovery to any moment of the last so many days needs"),
]
ClusterOption = Annotated[
    str | None, typer.Option("--cluster", help="The cluster's system identifier, if the store has backups of several")
]


@app.callback(invoke_without_command=True)
def backup(context: typer.Context, keep: Keep = None, keep_days: KeepDays = None) -> None:
    """Back up the cluster, its write-ahead log (WAL) and the embedded stack; encrypted and verified."""
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
            "[yellow]The backup is on the same disk as the stack: one disk failure would lose both. "
            "Set MEDALLION_BACKUP_TO to a folder on another disk, or to s3://bucket/prefix.[/]"
        )
    _expire(Catalog(store, made.system), keep, keep_days)


@app.command("list")
def list_backups(cluster: ClusterOption = None) -> None:
    """List backups, the moments that can be recovered, and the results of drills."""
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
    label: Annotated[str | None, typer.Argument(metavar="[LABEL]", help="Default: the newest backup")] = None,
    cluster: ClusterOption = None,
) -> None:
    """Read a backup back, decrypt it, and compare every file and the WAL with the manifest."""
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
    console.print(f"[green]{chosen.label} is intact: every file and the WAL match the manifest[/]")


@app.command()
def expire(
    keep: Keep = None,
    keep_days: KeepDays = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation")] = False,
    cluster: ClusterOption = None,
) -> None:
    """Delete old backups and the WAL that only they need. The newest backup is always kept."""
    _expire(catalog_of(cluster), keep, keep_days, ask=not yes)


@app.command()
def archive() -> None:
    """Stream the cluster's write-ahead log to the store until stopped. Run this as a service."""
    from infra.backup import archiver, server
    from infra.backup.catalog import Catalog
    from infra.backup.key import keys
    from infra.backup.store import open_store

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    at, ours, stop = server.address(), keys(), threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    catalog, spool = Catalog(open_store(), server.identify(at).system), archiver.spool_folder()
    # A backup archives the WAL itself if no archiver runs; an archiver that is started meanwhile must outlive it.
    told = False
    while not stop.is_set():
        with archiver.hold(spool) as held:
            if held:
                console.print(f"archiving the WAL of cluster {catalog.system} to {catalog.store.place}")
                archiver.Archiver(at, catalog, ours, spool, settings().backup_interval_seconds).run(stop)
                return
        if not told:
            console.print(f"another process uses {spool}: waiting until it ends")
            told = True
        stop.wait(1)


@app.command()
def key(
    file: Annotated[Path, typer.Argument(help="The file to write; a key already in it is kept below the new one")],
) -> None:
    """Create a key that encrypts backups. Keep a copy elsewhere: without it no backup can be decrypted."""
    from infra.backup.key import make

    made = make(file.expanduser().resolve())
    console.print(f"written: {file}, key {made.name}")
    console.print(f"export MEDALLION_BACKUP_KEY_FILE={file.expanduser().resolve()}", soft_wrap=True)
    console.print("[yellow]Keep a copy on another machine: without the key, no backup can be decrypted.[/]")


@app.command()
def point(name: Annotated[str, typer.Argument(help="For example before_migration_7")]) -> None:
    """Create a named restore point, to which `medallion restore --to-name` recovers."""
    from infra.backup import server

    with server.connect(server.address()) as session:
        row = session.execute("select pg_create_restore_point(%s)::text", [name]).fetchone()
    console.print(f"{name} is at {row[0] if row else '?'}")


def _tell_what_waits() -> None:
    """Show how much WAL the server keeps for the archiver, if the server can be reached."""
    from flows.values.errors import MedallionError
    from infra.backup import server

    with suppress(MedallionError), server.connect(server.address()) as session:
        slot = server.slot(session)
        if slot is None or not slot.active:
            console.print("[yellow]No archiver is running: what is committed now is not safe until one does.[/]")
        if slot is not None:
            console.print(f"The server keeps {slot.kept_bytes / 1024**2:,.0f} MB of WAL for the archiver.")


def _expire(catalog: Catalog, keep: int | None, keep_days: float | None, *, ask: bool = False) -> None:
    from infra.backup import retention

    expiry = retention.plan(catalog, keep=keep, days=keep_days)
    if not expiry.expired and not expiry.log:
        if ask:
            console.print("nothing to delete: set what to keep with --keep or --keep-days")
        return
    console.print(backup_tables.expiry_words(expiry))
    if ask:
        typer.confirm("Delete it?", abort=True)
    retention.expire(catalog, expiry)


def catalog_of(cluster: str | None) -> Catalog:
    """The catalog of a cluster, by its system identifier; None is the one backed up last.

    Raises:
        StoreFailed: the store is neither a folder nor an S3 URL.
        NoBackup: the store has no backup.
    """
    from infra.backup.catalog import open_catalog
    from infra.backup.store import open_store

    return open_catalog(open_store(), cluster)


def step(text: str) -> None:
    """Print that a part of a long command is done."""
    console.print(f"  [green]✓[/] {text}", highlight=False)
