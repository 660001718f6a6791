"""The key that hashes subjects in the erasure log."""

from __future__ import annotations

from flows.access.generated_keys import find_key
from flows.values.errors import ConfigurationError
from flows.values.settings import settings

#: The key's file in the home of the embedded stack.
FILE = "erasure.key"
_VARIABLE = "MEDALLION_ERASURE_KEY"
#: Bytes. Subject keys are easy to enumerate; only this key prevents guessing them from hashes.
SHORTEST = 16


def erasure_key(*, may_generate: bool = True) -> bytes:
    """`MEDALLION_ERASURE_KEY`, or the key of the embedded stack, which is generated once: for the first erasure.

    Raises:
        ConfigurationError: it is missing, empty or too short. A key that differs per machine recognises nobody.
    """
    try:
        key, where = find_key(settings().erasure_key, _VARIABLE, FILE, may_generate=may_generate)
    except ConfigurationError as problem:
        lost = None if may_generate else "set it to the former key, from a backup"
        raise ConfigurationError(
            "subjects were erased, and the key for their hashes is lost"
            if lost
            else "the key for hashing erased subjects is not configured",
            where=problem.where,
            fix=f"{lost or problem.fix}: without it, erased subjects that reappear are not recognised",
        ) from None
    if len(key.strip()) < SHORTEST:
        raise ConfigurationError(
            "the key for hashing erased subjects is empty or short: readers of the erasure log could guess subjects",
            where=where,
            fix="set it to 32 random characters, or to the old key if subjects were erased before",
        )
    return key
