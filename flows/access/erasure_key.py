"""The key that hashes subjects in the erasure log."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from flows.values.errors import ConfigurationError
from flows.values.settings import settings

#: The key's file in the home of the embedded stack.
FILE = "erasure.key"
#: Bytes. Subject keys are easy to enumerate; only this key prevents guessing them from hashes.
SHORTEST = 16


def erasure_key() -> bytes:
    """`MEDALLION_ERASURE_KEY`; with the embedded stack, a key is generated and stored in its folder (0600).

    Raises:
        ConfigurationError: it is missing, empty or too short. A key that differs per machine recognises nobody.
    """
    configured = settings().erasure_key
    if configured is not None:
        return _long_enough(configured.get_secret_value().encode(), "MEDALLION_ERASURE_KEY")
    home = settings().home
    if not (home / "stack.json").exists():
        raise ConfigurationError(
            "the key for hashing erased subjects is not configured",
            where="MEDALLION_ERASURE_KEY",
            fix="set it to 32 random characters, the same wherever the platform runs, and keep it with the other "
            "secrets: without it, erased subjects that reappear are not recognised",
        )
    path = home / FILE
    if not path.exists():
        _make(path)
    return _long_enough(path.read_bytes(), str(path))


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


def _long_enough(key: bytes, where: str) -> bytes:
    if len(key.strip()) < SHORTEST:
        raise ConfigurationError(
            "the key for hashing erased subjects is empty or short: readers of the erasure log could guess subjects",
            where=where,
            fix="set it to 32 random characters, or to the old key if subjects were erased before",
        )
    return key
