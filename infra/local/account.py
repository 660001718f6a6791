"""The account that runs PostgreSQL, and its access to the files.

PostgreSQL refuses to run as root. Started by root it therefore runs as the owner of its folder, or as an account of
its own. Such an account often cannot reach the checkout (`/root` is 0700): it is then granted passage, by an access
list that names only this account. Opening the folders to everybody would work as well, and would stay open.
"""

import os
import pwd
import stat
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from infra.local import private
from infra.local.errors import FolderUnusable, StackError

ACCOUNT = "embedded_postgres"


@dataclass(frozen=True)
class Account:
    """A system account other than ours, to run programs as."""

    name: str
    uid: int
    gid: int


def account_for(folder: Path) -> Account | None:
    """The account to run PostgreSQL as; None means: as ourselves, because we are not root.

    Root takes the folder's owner where the folder exists, so a stack that a person started stays that person's.
    """
    if os.geteuid() != 0:
        return None
    with suppress(FileNotFoundError, KeyError):
        owner = folder.stat().st_uid
        if owner != 0:
            return _account(pwd.getpwuid(owner))
    with suppress(KeyError):
        return _account(pwd.getpwnam(ACCOUNT))
    # Minimal images have no useradd, or a read-only /etc: `nobody` is everywhere and may as well own the files.
    with suppress(OSError, subprocess.CalledProcessError, KeyError):
        subprocess.run(
            ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT],
            check=True,
            capture_output=True,
        )
        return _account(pwd.getpwnam(ACCOUNT))
    with suppress(KeyError):
        return _account(pwd.getpwnam("nobody"))
    raise StackError(
        "PostgreSQL cannot run as root, and no other account exists or can be created",
        where="embedded PostgreSQL",
        fix=f"create an account named {ACCOUNT}, or run as a normal user",
    )


def grant_passage(account: Account, *folders: Path) -> None:
    """Let `account` traverse every folder above `folders`, and the folders themselves.

    Raises FolderUnusable where the file system knows no access lists.
    """
    for folder in folders:
        if _may_traverse(account, folder):
            continue
        for step in reversed((folder, *folder.parents)):
            if not _may_traverse(account, step):
                try:
                    private.let_traverse(step, account.uid)
                except (OSError, AttributeError) as error:
                    raise FolderUnusable(
                        f"the account {account.name}, which runs PostgreSQL when root starts it, cannot traverse "
                        "this folder",
                        where=str(step),
                        fix=f"run `chmod o+x {step}`, or move the project, or run as a normal user",
                    ) from error


def open_to_read(tree: Path) -> None:
    """Make the files of an installed package readable, as a umask of 077 at installation left them closed."""
    for step in (tree, *tree.rglob("*")):
        if step.is_symlink():
            continue
        mode = step.stat().st_mode
        wanted = mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
        if wanted != mode:
            step.chmod(wanted)


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _may_traverse(account: Account, folder: Path) -> bool:
    # Ask the system rather than read the bits: access lists and groups count too.
    probe = subprocess.run(
        ["/bin/sh", "-c", 'test -x "$1"', "sh", str(folder)],
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        cwd="/",
        check=False,
    )
    return probe.returncode == 0
