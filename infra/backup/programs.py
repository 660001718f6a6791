"""PostgreSQL's programs for backup, verification and recovery: the wheel's, or those of MEDALLION_POSTGRES_PROGRAMS.

A server with TLS needs the latter, such as /usr/lib/postgresql/18/bin: the wheel is built without OpenSSL.
"""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from flows.values.errors import ConfigurationError
from flows.values.settings import settings
from infra.backup.errors import ServerRefused
from infra.local.account import Account
from infra.local.programs import programs_folder


def folder() -> Path:
    """Where the programs are. Raises ConfigurationError, and StackError where the wheel is not installed."""
    configured = settings().postgres_programs
    if configured is None:
        return programs_folder()
    if not (configured / "pg_basebackup").exists():
        raise ConfigurationError(
            "pg_basebackup does not exist",
            where=f"MEDALLION_POSTGRES_PROGRAMS={configured}",
            fix="name the folder of PostgreSQL's programs, such as /usr/lib/postgresql/18/bin",
        )
    return configured


def command(program: str, *arguments: str) -> Sequence[str]:
    """The program's whole command line."""
    return [str(folder() / program), *arguments]


def run(
    program: str, *arguments: str, url: str | None = None, account: Account | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as ourselves or as an account. Does not judge the exit code."""
    addressed = [] if url is None else ["-d", without_password(url)]
    return subprocess.run(
        command(program, *addressed, *arguments),
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd or Path("/"),
        env=environment(url),
        start_new_session=True,
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else [],
    )


def environment(url: str | None = None) -> Mapping[str, str]:
    """Nothing of the caller's but the path; the address's password, since arguments are visible to everybody."""
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC", "HOME": os.environ.get("HOME", "/")}
    password = conninfo_to_dict(url).get("password") if url is not None else None
    return env | ({"PGPASSWORD": str(password)} if password else {})


def without_password(url: str) -> str:
    """The address as a program may be given it; every other parameter, those of TLS above all, is kept."""
    parameters = {name: value for name, value in conninfo_to_dict(url).items() if name != "password"}
    return make_conninfo("", **parameters)


def major() -> int:
    """The major version of the programs."""
    found = re.search(r"\b(\d+)\.", run("pg_basebackup", "--version").stdout)
    if found is None:
        raise ConfigurationError(
            "pg_basebackup does not print its version",
            where=str(folder()),
            fix="check that this account may run it",
        )
    return int(found[1])


def refused(program: str, stderr: str, address: str) -> ServerRefused:
    """Why a program that speaks with the server failed. Its words hold names of objects, and no values of rows."""
    last = "; ".join(line.strip().removeprefix(f"{program}: ") for line in stderr.strip().splitlines()[-3:])
    fix = "check the server's log; the next run starts over"
    if "SSL support is not compiled in" in stderr:
        fix = "set MEDALLION_POSTGRES_PROGRAMS to programs built with TLS, such as /usr/lib/postgresql/18/bin"
    elif "checksum" in stderr:
        fix = (
            "a page on the server's disk is damaged: recover from an earlier backup (`medallion restore`), or reload "
            "the table; the server's log names the damaged table"
        )
    return ServerRefused(
        f"{program} failed: {last or 'no output'}",
        where=address,
        fix=fix,
        retryable="checksum" not in stderr and "SSL support" not in stderr,
    )
