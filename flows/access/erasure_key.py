"""The secret by which people are written down in the log of erasures."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from flows.values.errors import ConfigurationError
from flows.values.settings import settings

#: Its file in the home of the embedded stack.
FILE = "erasure.key"
#: Bytes. The keys of persons are few; only this one keeps them from being tried.
SHORTEST = 16


def erasure_key() -> bytes:
    """`MEDALLION_ERASURE_KEY`; beside the embedded stack one is generated, and kept in its folder (0600).

    Raises:
        ConfigurationError: there is neither, or it is empty or so short that it could be guessed. One that changed with
            each machine would recognise nobody.
    """
    configured = settings().erasure_key
    if configured is not None:
        return _long_enough(configured.get_secret_value().encode(), "MEDALLION_ERASURE_KEY")
    home = settings().home
    if not (home / "stack.json").exists():
        raise ConfigurationError(
            "there is no key to write erased people down with",
            where="MEDALLION_ERASURE_KEY",
            fix="set it to 32 random characters, the same wherever the platform runs, and keep it with the other "
            "secrets: without it nobody who returns is recognised",
        )
    path = home / FILE
    if not path.exists():
        _make(path)
    return _long_enough(path.read_bytes(), str(path))


def _make(path: Path) -> None:
    """A key appears whole or not at all: a process that reads it meanwhile, or a kill, must not find an empty one."""
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


def _long_enough(key: bytes, where: str) -> bytes:
    if len(key.strip()) < SHORTEST:
        raise ConfigurationError(
            "the key to write erased people down with is empty or short: who may read the log could try all persons",
            where=where,
            fix="set it to 32 random characters, or to the former key if people were erased before",
        )
    return key
