"""Keys of the platform itself: configured, or generated once and kept by the embedded stack."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr

from flows.values.errors import ConfigurationError
from flows.values.settings import settings


def find_key(configured: SecretStr | None, variable: str, file: str, *, may_generate: bool = True) -> tuple[bytes, str]:
    """The key and where it was found. With the embedded stack, one is generated and stored in its folder (0600),
    unless it must exist already.

    Raises:
        ConfigurationError: it is not configured. A key that differs per machine would be of no use.
    """
    if configured is not None:
        return configured.get_secret_value().encode(), variable
    home = settings().home
    if not (home / "stack.json").exists() or not (may_generate or (home / file).exists()):
        raise ConfigurationError(
            "the key is not configured",
            where=variable,
            fix="set it to 32 random characters, the same wherever the platform runs, and keep it with the other "
            "secrets",
        )
    path = home / file
    if not path.exists():
        _make(path)
    return path.read_bytes(), str(path)


def _make(path: Path) -> None:
    """Write the key atomically: a concurrent reader, or the next run after a kill, must not find an empty file."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(partial, path)
    finally:
        partial.unlink()
