"""Verification of backups: read back, decrypt, and compare with PostgreSQL's manifest."""

import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO

from flows.values.settings import settings
from infra.backup import archive, embedded, programs
from infra.backup.aside import aside
from infra.backup.catalog import Backup, Catalog
from infra.backup.encrypted import decrypted
from infra.backup.errors import Damaged, KeyRefused
from infra.backup.key import Keys
from infra.local.account import Account
from infra.local.home import file_error


def verify(catalog: Catalog, backup: Backup, keys: Keys) -> None:
    """Read a backup back into a scratch folder, with the WAL that it needs, and run pg_verifybackup.

    Takes as much room in the stack's home as the cluster itself, for as long as it lasts.
    Raises Damaged, LogGap, KeyRefused, StoreFailed.
    """
    with aside(settings().home) as folder:
        data, log = folder / "data", folder / "wal"
        extract(catalog, backup, keys, data)
        log.mkdir()
        known = archive.histories(catalog, keys)
        found = archive.stretch(catalog, backup, known, timeline=backup.timeline, until=backup.end - 1)
        archive.refuse_gap(found, f"backup {backup.label}")
        if found.whole_until < backup.end and not any(
            name.endswith(archive.PARTIAL) for name in found.objects.values()
        ):
            raise _no_log(backup)
        archive.fetch(catalog, found, keys, log, backup.system)
        held_against_manifest(backup, data, log)
        if backup.stack:
            with catalog.store.read(catalog.stack(backup.label)) as sealed, decrypted(sealed, keys, "stack") as plain:
                embedded.unpack(plain, folder)


def extract(catalog: Catalog, backup: Backup, keys: Keys, data: Path, account: Account | None = None) -> None:
    """Write the cluster's files into `data`, owned by the account that will run it.

    Raises Damaged, KeyRefused, StoreFailed, DiskFull.
    """
    if not keys.known(backup.key):
        raise KeyRefused(
            "none of the configured keys decrypts it",
            where=f"backup {backup.label}",
            fix=f"add the line of the key {backup.key} to the file of MEDALLION_BACKUP_KEY_FILE, or to "
            "MEDALLION_BACKUP_KEY",
        )
    try:
        data.mkdir(mode=0o700, parents=True)
        with (
            catalog.store.read(catalog.base(backup.label)) as sealed,
            decrypted(sealed, keys, f"backup {backup.label}") as plain,
        ):
            write_files(plain, data, account)
        if account is not None:
            os.chown(data, account.uid, account.gid)
    except FileNotFoundError:
        raise Damaged(
            "its files are missing", where=f"backup {backup.label}", fix="recover from another backup"
        ) from None
    except tarfile.TarError:
        raise Damaged(
            "it differs from what was written", where=f"backup {backup.label}", fix="recover from another backup"
        ) from None
    except OSError as error:
        raise file_error(error, data.parent) from error


def write_files(plain: IO[bytes], data: Path, account: Account | None) -> None:
    """Write the files and folders of an archive of pg_basebackup below `data`.

    Raises tarfile.TarError for anything else, which pg_basebackup never writes here: a backup is sealed for a public
    key, so whoever may write to the store could have sealed another.
    """
    with tarfile.open(fileobj=plain, mode="r|", bufsize=1 << 20) as tar:
        # Python has its own filter since 3.11.4, and Debian 12 has 3.11.2: what it keeps out is refused here as well.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        for member in tar:
            path = PurePosixPath(member.name)
            if not (member.isreg() or member.isdir()) or path.is_absolute() or ".." in path.parts:
                raise tarfile.ExtractError(f"{member.name} is not a file of a cluster")
            member.uid, member.gid, member.uname, member.gname = os.geteuid(), os.getegid(), "", ""
            member.mode &= 0o700
            tar.extract(member, data)
            if account is not None:
                os.chown(data / member.name, account.uid, account.gid)


def held_against_manifest(backup: Backup, data: Path, log: Path) -> None:
    """Let pg_verifybackup compare the files, and the log between start and end. Raises Damaged."""
    done = programs.run("pg_verifybackup", "--quiet", "--wal-directory", str(log), str(data))
    if done.returncode != 0:
        last = "; ".join(line.strip() for line in done.stderr.strip().splitlines()[-3:]).replace(str(data), "")
        raise Damaged(
            f"it does not match the manifest: {last}",
            where=f"backup {backup.label}",
            fix="recover from another backup, and make a new one: `medallion backup`",
        )


def _no_log(backup: Backup) -> Damaged:
    return Damaged(
        "the WAL that it needs is not in the archive",
        where=f"backup {backup.label}",
        fix="recover from another backup, and make a new one: `medallion backup`",
    )
