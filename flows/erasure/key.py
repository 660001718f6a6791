"""The secret by which people are written down in the log of erasures."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress

from flows.settings import settings
from flows.spec.errors import ConfigurationError


def erasure_key() -> bytes:
    """`MEDALLION_ERASURE_KEY`; beside the embedded stack one is generated, and kept in its folder (0600).

    Raises:
        ConfigurationError: there is neither. One that changed with each machine would recognise nobody.
    """
    configured = settings().erasure_key
    if configured is not None:
        return configured.get_secret_value().encode()
    home = settings().home
    if not (home / "stack.json").exists():
        raise ConfigurationError(
            "there is no key to write erased people down with",
            where="MEDALLION_ERASURE_KEY",
            next_move="set it to 32 random characters, the same wherever the platform runs, and keep it with the other "
            "secrets: without it nobody who returns is recognised",
        )
    path = home / "erasure.key"
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32))
    return path.read_bytes()
