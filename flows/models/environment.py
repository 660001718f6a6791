"""The environment of dbt and its models: one connection, and no secrets.

dbt runs in our process, whose environment has the loader's password, API keys and more, and Jinja reads environment
variables. So dbt's copy of the environment is an allow-list, made here. The transformer's password is not in it either:
libpq reads it from a password file (`PGPASSFILE`), so dbt's Python objects never contain it: docs/decisions/0027.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from flows.models.project_files import refuse_outside_files
from flows.models.sandbox import withhold_connections
from flows.models.told_errors import telling_no_values
from flows.values.correlation import application_name, correlation_id, handed_down
from flows.values.errors import ConfigurationError
from flows.values.settings import settings

PREFIX_VARIABLE = "MEDALLION_DBT_SCHEMA_PREFIX"
_LOCK_WAIT_VARIABLE = "MEDALLION_BUILD_LOCK_WAIT_SECONDS"
#: Set here only: then PGAPPNAME names dbt's sessions. dbt parses the project again when a variable of its profile has
#: another value, and the name has one in each run.
NAMED_VARIABLE = "MEDALLION_DBT_NAMED"
#: dbt writes what is behind the prefix into the metadata of its run_results.json and manifest.json.
METADATA_VARIABLE = "DBT_ENV_CUSTOM_ENV_CORRELATION_ID"
# What macros read. To see what has changed since its last run, dbt looks into the environment of the process, not into
# its copy: without them there it parses the whole project again each time, which takes 5 s.
_OF_MACROS = (PREFIX_VARIABLE, _LOCK_WAIT_VARIABLE, NAMED_VARIABLE)
#: dbt accepts a variable of this name only in profiles.yml, and masks its value in logs and errors.
PASSWORD_VARIABLE = "DBT_ENV_SECRET_MEDALLION_PASSWORD"  # noqa: S105 # nosec B105 - a variable's name
# dbt's own options, which its command line reads from the environment.
_OPTIONS = {"DBT_USE_COLORS": "false", "DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DO_NOT_TRACK": "1"}
_PRIVATE_UMASK = 0o077


def dbt_environment(url: str) -> dict[str, str]:
    """The variables that dbt_project/profiles.yml reads, from the connection URL of the role that builds."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    return {
        "MEDALLION_DBT_HOST": query.get("host", [parts.hostname or "localhost"])[0],
        "MEDALLION_DBT_PORT": str(parts.port or 5432),
        "MEDALLION_DBT_USER": unquote(parts.username or ""),
        PASSWORD_VARIABLE: unquote(parts.password or ""),
        "MEDALLION_DBT_DATABASE": unquote(parts.path.lstrip("/")),
        "MEDALLION_DBT_SSLMODE": query.get("sslmode", ["prefer"])[0],
        **{f"MEDALLION_DBT_{key.upper()}": query.get(key, [""])[0] for key in ("sslrootcert", "sslcert", "sslkey")},
        NAMED_VARIABLE: "true",
        _LOCK_WAIT_VARIABLE: str(settings().build_lock_wait_seconds),
        **_OPTIONS,
    }


@contextlib.contextmanager
def confined(url: str, *, project: Path, target: Path, prefix: str = "") -> Iterator[None]:
    """Within this context, dbt sees only the connection of `url`, and its files are readable by their owner only.

    Schemas begin with `prefix`. One at a time: dbt has global state.

    Raises:
        DeclarationError: the project reads files outside its folder.
        ConfigurationError: the password cannot be passed to libpq.
    """
    refuse_outside_files(project)
    withhold_connections()
    # The comment of its statements, and the name of its sessions, say which run they belong to. Its threads, which log
    # and start sessions, know the environment of the process only.
    seen = {**dbt_environment(url), PREFIX_VARIABLE: prefix, **handed_down()}
    of_run = {"PGAPPNAME": application_name("medallion-dbt"), METADATA_VARIABLE: correlation_id(), **handed_down()}
    password = seen.pop(PASSWORD_VARIABLE)
    umask = os.umask(_PRIVATE_UMASK)
    try:
        target.mkdir(parents=True, exist_ok=True)
        target.chmod(0o700)  # it may have been created earlier, or by others
        of_macros = {name: seen[name] for name in _OF_MACROS}
        with (
            _password_file(password) as options,
            _variables({**_OPTIONS, **options, **of_macros, **of_run}),
            _environment_of_dbt(seen),
            telling_no_values(),
        ):
            yield
    finally:
        os.umask(umask)


@contextlib.contextmanager
def _environment_of_dbt(seen: Mapping[str, str]) -> Iterator[None]:
    """dbt copies the environment with this function, once per invocation; `os.environ` is also read by Prefect."""
    from dbt.cli import requires
    from dbt_common.events.functions import reset_metadata_vars

    module: Any = requires
    reset_metadata_vars()  # it keeps those of the first build in this process
    copied = module.get_env  # AttributeError if dbt removes it: then nothing runs, rather than unconfined
    module.get_env = lambda: dict(seen)
    try:
        yield
    finally:
        module.get_env = copied


@contextlib.contextmanager
def _password_file(password: str) -> Iterator[dict[str, str]]:
    """The variable with the password file for libpq. Without a password libpq uses its defaults."""
    if not password:
        yield {}
        return
    if "\n" in password or "\r" in password:
        raise ConfigurationError(
            "the password contains a line break, which libpq cannot read",
            where="warehouse, role that builds models",
            fix="set another password for the role",
        )
    # Linux opens a file without a name by its descriptor: a killed process leaves nothing behind.
    nameless = Path("/proc/self/fd").is_dir()
    with tempfile.TemporaryFile("w") if nameless else tempfile.NamedTemporaryFile("w") as file:
        escaped = password.replace("\\", "\\\\").replace(":", "\\:")
        file.write(f"*:*:*:*:{escaped}\n")
        file.flush()
        yield {"PGPASSFILE": f"/proc/self/fd/{file.fileno()}" if nameless else str(file.name)}


@contextlib.contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
