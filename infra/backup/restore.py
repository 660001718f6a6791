"""Restore of the embedded cluster, or of a cluster in another folder, to a moment.

Recover into a separate folder → check it → only then stop the stack, move the damaged cluster aside, move this one into
place → start → load changes from the sources. Killed at any point, either the old or the new cluster is in place, and
running the command again starts over.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from flows.access import addresses
from flows.verbs.catch_up import CaughtUp, catch_up
from infra.backup import archiver, checks, embedded, service
from infra.backup.aside import aside
from infra.backup.catalog import Catalog, new_label
from infra.backup.checks import Check
from infra.backup.errors import BackupError, InTheWay
from infra.backup.recover import Recovery, recovered
from infra.local import stack
from infra.local.account import account_for
from infra.local.commerce import CommerceApi
from infra.local.errors import DiskFull
from infra.local.home import Home, file_error
from infra.local.postgres import Cluster

Step = Callable[[str], None]
Sources = Mapping[str, list[str] | None]


@dataclass
class Restored:
    """What a recovery led to. `aside` is where the damaged cluster is kept; `seconds` passed until it was usable."""

    data: Path
    backup: str
    target: str
    last_commit: datetime | None
    checks: list[Check]
    seconds: float
    aside: Path | None = None
    tables: list[CaughtUp] = field(default_factory=list)


def restore_into(folder: Path, recovery: Recovery, *, on_step: Step) -> Restored:
    """Recover into `folder`/data, and leave it stopped; the stack's files, if the backup has them, in `folder`/stack.

    Raises InTheWay where the folder holds anything, and what `recovered` raises.
    """
    began = time.monotonic()
    if folder.exists() and any(folder.iterdir()):
        raise InTheWay("the folder is not empty", where=str(folder), fix="name an empty or new folder")
    folder.mkdir(parents=True, exist_ok=True)
    account = account_for(folder)
    refuse_small_disk(recovery.catalog, folder)
    with aside(folder, account) as work:
        facts = _recovered(recovery, work, on_step)
        try:
            (work / "data").rename(folder / "data")
            if (work / "stack").exists():
                (work / "stack").rename(folder / "stack")
        except OSError as error:
            raise file_error(error, folder) from error
    facts.data, facts.seconds = folder / "data", time.monotonic() - began
    return facts


def restore_embedded(
    home: Home,
    recovery: Recovery,
    *,
    replace: bool = False,
    sources: Sources | None = None,
    on_step: Step,
    on_table: Callable[[CaughtUp], None] = lambda _: None,
) -> Restored:
    """Put the embedded stack back to the target, start it, and catch up with `sources` (None: do not).

    What was there is kept: the cluster as `postgres/data.damaged-<moment>`, Prefect's database beside it.

    Raises InTheWay where a cluster is there and `replace` does not say that it may go, and what `recovered` raises;
    then nothing has changed.
    """
    began = time.monotonic()
    if home.has_cluster() and not replace:
        raise InTheWay(
            "a cluster already exists",
            where=str(home.postgres),
            fix="add --replace, which moves it aside and keeps it; or recover into another folder with --into FOLDER",
        )
    home.prepare(min_free_bytes=0)
    cluster = Cluster(home.postgres)
    home.postgres.mkdir(mode=0o700, exist_ok=True)
    account = account_for(home.postgres)
    spool = archiver.spool_folder()
    with archiver.hold(spool) as ours:
        if ours:  # nobody archives any more: what the lost cluster sent last still waits
            archiver.ship_the_rest(spool, recovery.catalog, recovery.keys)
    refuse_small_disk(recovery.catalog, home.postgres)
    with aside(home.postgres, account) as work:
        facts = _recovered(recovery, work, on_step)
        with_commerce = any(
            found.name == CommerceApi.name and found.state != "stopped" for found in stack.status(home=home)
        )
        stack.down(home=home)
        service.ARCHIVER.stop(home)
        facts.aside = _swap(home, cluster, work)
    shutil.rmtree(spool, ignore_errors=True)  # of the cluster that was: its successor's log is another
    on_step(f"moved it into place{f'; the previous cluster is {facts.aside}' if facts.aside else ''}")
    facts.data = cluster.data
    running = stack.up(home=home, wait=False, on_step=on_step, with_commerce=with_commerce, min_free_bytes=0)
    if service.start(home) is not None:
        on_step("WAL archiving is running again")
    facts.seconds = time.monotonic() - began
    if sources is not None:
        facts.tables = asyncio.run(catch_up(addresses.warehouse(), sources, on_table))
        facts.seconds = time.monotonic() - began
    running.wait_for_prefect(home)
    on_step("Prefect is up")
    return facts


def _recovered(recovery: Recovery, work: Path, on_step: Step) -> Restored:
    with recovered(recovery, work, account=account_for(work), on_step=on_step) as found:
        seen = checks.check(found.cluster)
        found.cluster.stop()
        seen.append(checks.check_pages(found.cluster))
    bad = [check for check in seen if not check.good]
    if bad:
        raise BackupError(
            f"the recovered cluster failed checks: {'; '.join(f'{check.name}: {check.found}' for check in bad)}",
            where=f"backup {found.backup.label}",
            fix="recover to another moment, or from another backup: `medallion backup list`",
        )
    on_step(f"checked: {'; '.join(f'{check.name}: {check.found}' for check in seen)}")
    return Restored(work, found.backup.label, str(found.target), found.last_commit, seen, 0.0)


def _swap(home: Home, cluster: Cluster, work: Path) -> Path | None:
    """The new cluster and the stack's files in place of the old ones, which are kept; where."""
    kept = home.postgres / f"data.damaged-{new_label(datetime.now(UTC))}"
    with home.lock():
        if cluster.running() is not None:
            raise InTheWay(
                "the cluster was started by another process",
                where=str(home.postgres),
                fix="run the command again",
                retryable=True,
            )
        there = cluster.data.exists()
        try:
            if there:
                cluster.data.rename(kept)
                _keep_port(kept, work / "data")
            (work / "data").rename(cluster.data)
            if (work / "stack").exists():
                embedded.replace(home, work / "stack", home.root / f"stack.damaged-{kept.name.rpartition('-')[2]}")
        except OSError as error:
            raise file_error(error, home.postgres) from error
    return kept if there else None


def _keep_port(old: Path, new: Path) -> None:
    """`up` takes the port of last time from PostgreSQL's note of its command line, which copies leave out."""
    with suppress(FileNotFoundError):
        shutil.copy2(old / "postmaster.opts", new / "postmaster.opts")
        owner = new.stat()
        if os.geteuid() == 0:
            os.chown(new / "postmaster.opts", owner.st_uid, owner.st_gid)


def refuse_small_disk(catalog: Catalog, folder: Path) -> None:
    """Raise DiskFull where the newest backup would not fit, rather than half an hour later."""
    backups = catalog.backups()
    free = shutil.disk_usage(folder).free
    if backups and free < backups[-1].cluster_bytes * 1.1:
        raise DiskFull(
            f"{free / 1024**3:.1f} GB free, {backups[-1].cluster_bytes * 1.1 / 1024**3:.1f} GB needed",
            where=str(folder),
            fix="free some space, or recover into a folder on a larger disk with --into",
        )
