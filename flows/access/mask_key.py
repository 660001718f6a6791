"""The key of hashed columns: the same value has the same hash in every table and source, and only with this key."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from flows.access.generated_keys import find_key
from flows.values.errors import ConfigurationError
from flows.values.settings import settings

#: The key's file in the home of the embedded stack.
FILE = "mask.key"
_VARIABLE = "MEDALLION_MASK_KEY"
#: Bytes. Phone numbers and names are easy to enumerate; only this key prevents finding them by their hashes.
SHORTEST = 32
# RFC 2104 for SHA-256: the key fills a block of 64 bytes, and is mixed with two constants.
_BLOCK, _INNER, _OUTER = 64, 0x36, 0x5C


@dataclass(frozen=True, slots=True, repr=False)
class MaskKey:
    """The key. It has no representation, so that it reaches no log."""

    key: bytes

    @property
    def fingerprint(self) -> str:
        """Tells whether it is the same key, and nothing else about it."""
        return hmac.new(self.key, b"medallion: fingerprint of the mask key", hashlib.sha256).hexdigest()[:16]

    @property
    def pads(self) -> tuple[bytes, bytes]:
        """The inner and the outer pad: HMAC-SHA256 of a value is sha256(outer || sha256(inner || value))."""
        key = self.key if len(self.key) <= _BLOCK else hashlib.sha256(self.key).digest()
        key = key.ljust(_BLOCK, b"\0")
        return bytes(byte ^ _INNER for byte in key), bytes(byte ^ _OUTER for byte in key)

    def hash(self, text: str) -> str:
        """HMAC-SHA256 of the text's UTF-8, in hex: what a hashed column has for this value."""
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()


def mask_key() -> MaskKey:
    """`MEDALLION_MASK_KEY`, or the key of the embedded stack.

    Raises:
        ConfigurationError: it is missing or too short.
    """
    try:
        key, where = find_key(settings().mask_key, _VARIABLE, FILE)
    except ConfigurationError as problem:
        raise ConfigurationError(
            "the key for hashing masked columns is not configured, and nothing is loaded without it",
            where=problem.where,
            fix=problem.fix,
        ) from None
    # A line break at its end is of the file or the editor; with it, all hashes would be others.
    key = key.strip()
    if len(key) < SHORTEST:
        raise ConfigurationError(
            f"the key for hashing masked columns has less than {SHORTEST} characters: values could be found by trying",
            where=where,
            fix="set it to 32 random characters or more, or to the former key if tables were loaded with one",
        )
    return MaskKey(key)
