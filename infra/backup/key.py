"""The keys of backups, in the format of age (age-encryption.org/v1): any age program can decrypt with them.

AGE-SECRET-KEY-1…     the newest: what is written now is written for it
AGE-SECRET-KEY-1…     an older one: what was written for it can still be read

Lines that begin with # are remarks. A key is named by its public half, which is no secret.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from flows.values.settings import settings
from infra.backup.errors import KeyRefused

try:
    import pyrage
    from pyrage import x25519
except ImportError as missing:
    raise KeyRefused(
        "the packages for encrypted backups are not installed",
        where="backup",
        fix="install the extra `backup`: uv sync --extra backup",
    ) from missing

_HOW = "`medallion backup key FILE` creates one; set MEDALLION_BACKUP_KEY_FILE to it, or set MEDALLION_BACKUP_KEY"


@dataclass(frozen=True)
class Keys:
    """All keys of ours, newest first. Their secret halves stay out of the repr."""

    identities: tuple[x25519.Identity, ...] = field(repr=False)

    @property
    def recipient(self) -> x25519.Recipient:
        """Whom we write for."""
        return self.identities[0].to_public()

    @property
    def name(self) -> str:
        """The newest key's name: its public half."""
        return str(self.recipient)

    def known(self, name: str) -> bool:
        """Whether the key of that name is among ours."""
        return name in {str(identity.to_public()) for identity in self.identities}


def keys() -> Keys:
    """The keys of this process, from MEDALLION_BACKUP_KEY or the file that MEDALLION_BACKUP_KEY_FILE names.

    Raises KeyRefused.
    """
    configured, file = settings().backup_key, settings().backup_key_file
    if configured is not None:
        return parse(configured.get_secret_value(), "MEDALLION_BACKUP_KEY")
    if file is None:
        raise KeyRefused("no key to encrypt backups is configured", where="backup", fix=_HOW)
    try:
        return parse(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise KeyRefused(f"the key cannot be read ({type(error).__name__})", where=str(file), fix=_HOW) from None


def parse(text: str, where: str) -> Keys:
    """The keys in a text. Raises KeyRefused, which quotes none of it."""
    lines = [line.strip() for line in text.splitlines()]
    try:
        found = tuple(x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#"))
    except pyrage.IdentityError:
        raise KeyRefused(
            "this is not an age key: a line does not start with AGE-SECRET-KEY-1, or is truncated",
            where=where,
            fix=_HOW,
        ) from None
    if not found:
        raise KeyRefused("the file contains no key", where=where, fix=_HOW)
    return Keys(found)


def make(file: Path) -> Keys:
    """A new key in `file`, readable by its owner only; so is a folder that is made for it.

    What the file held stays below the new key, so that older backups open.

    Raises KeyRefused where the file cannot be written, or holds something else.
    """
    identity = x25519.Identity.generate()
    try:
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        if before:
            parse(before, str(file))
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = file.with_name(f"{file.name}.partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(f"# public key: {identity.to_public()}\n{identity}\n{before}")
            opened.flush()
            os.fsync(opened.fileno())
        partial.replace(file)
    except (OSError, UnicodeDecodeError) as error:
        raise KeyRefused(
            f"the key cannot be written ({type(error).__name__})",
            where=str(file),
            fix="name a file in a folder that you may write, outside the folder of the stack",
        ) from None
    return parse(file.read_text(encoding="utf-8"), str(file))
