"""dbt as a program of its own, for people and editors: the connection, the folders and the private schemas are set.

The commands of the platform run dbt in their process (flows/models/project.py). Here it is the program that dbt's
packages install, with dbt's own output, so that every argument and extension of dbt works.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.access import addresses
from flows.models.dev import analyst
from flows.models.environment import PREFIX_VARIABLE, dbt_environment
from flows.models.private_schemas import prefix_for
from flows.models.project import DBT_PROJECT
from flows.models.state import fetch_state
from flows.values.errors import ConfigurationError
from flows.values.settings import settings

# What programs need of the environment; the rest holds keys of sources, which models could read.
_KEPT = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TERM", "TMPDIR", "SSL_CERT_FILE", "COLUMNS", "NO_COLOR")
_PRIVATE = 0o600
#: Commands of dbt that change no model.
READING_COMMANDS = ("compile", "debug", "docs", "list", "ls", "parse", "show", "source", "test")


def plain_environment(*, shared: bool = False, project: Path = DBT_PROJECT) -> dict[str, str]:
    """The variables with which `dbt` works on the project: connection, folders, and where it builds.

    It builds into the analyst's private schemas and reads what they lack from the last full build, or into the shared
    schemas if `shared`. DBT_ENV_SECRET_MEDALLION_PASSWORD is the transformer's password: dbt masks it.

    Raises:
        ConfigurationError: the warehouse is not configured, or there is no full build to read from yet.
    """
    variables = dbt_environment(addresses.transformer().url) | {
        "DBT_PROJECT_DIR": str(project),
        "DBT_PROFILES_DIR": str(project),
        "DBT_TARGET_PATH": str(settings().home / "dbt" / "plain"),
        "DBT_LOG_PATH": str(settings().home / "dbt" / "plain" / "logs"),
        PREFIX_VARIABLE: "",
    }
    del variables["DBT_USE_COLORS"]  # a person reads this
    if shared:
        return variables
    state = asyncio.run(fetch_state())
    return variables | {
        PREFIX_VARIABLE: prefix_for("dev", analyst()),
        "DBT_DEFER": "true",
        "DBT_STATE": str(state.folder),
    }


def refuse_shared_build(arguments: Sequence[str], *, env_file: bool) -> None:
    """Refuse whatever could change the shared schemas past transforms and releases.

    A build that they do not know of takes none of their locks, and its tables would count as built from inputs that it
    never saw (flows/models/selective).

    Raises:
        ConfigurationError: the first argument is not one of READING_COMMANDS, or others would get the variables.
    """
    if env_file:
        raise ConfigurationError(
            "variables for editors are those of your private schemas: with others they would build past transforms",
            where="medallion dbt --shared --env-file",
            fix="leave out --shared",
        )
    if arguments and arguments[0] not in READING_COMMANDS:
        raise ConfigurationError(
            "only transforms and releases change the shared schemas",
            where=f"medallion dbt --shared {arguments[0]}",
            fix="leave out --shared to build in your private schemas, or run `medallion transform`; "
            f"with --shared, write one of these first: {', '.join(READING_COMMANDS)}",
        )


def run_plain(arguments: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run `dbt` with these arguments on the terminal. Returns its exit code.

    Raises:
        ConfigurationError: dbt's program is not installed.
    """
    program = Path(sys.executable).with_name("dbt")
    if not program.exists():
        raise ConfigurationError(
            "the program dbt is not installed", where=str(program.parent), fix="run `make install`, which installs it"
        )
    Path(variables["DBT_TARGET_PATH"]).mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return subprocess.run([str(program), *arguments], env={**kept, **variables}, check=False).returncode


def write_env_file(variables: Mapping[str, str]) -> Path:
    """Write the variables to `.medallion/dbt.env`, for shells and editors. Only its owner may read it."""
    file = settings().home / "dbt.env"
    partial = file.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "w", encoding="utf-8") as written:
        written.writelines(f"{name}={shlex.quote(value)}\n" for name, value in sorted(variables.items()))
    partial.replace(file)
    return file
