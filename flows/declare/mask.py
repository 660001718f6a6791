"""Columns whose values must not reach the warehouse: a hash or a mask is loaded instead."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from flows.values.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Hashed:
    """The keyed hash of a value's text (HMAC-SHA256, in hex), so that equal values join across tables and sources.

        masked={"email": Hashed()}

    The key is MEDALLION_MASK_KEY. A null stays null. A key's column may be hashed.
    """


@dataclass(frozen=True, slots=True)
class Masked:
    """`***`, followed by the last `keep` characters of a value that has at least twice as many.

        masked={"iban": Masked(), "phone": Masked(keep=2)}          *** and ***42

    A null stays null.
    """

    keep: int = 0

    def __post_init__(self) -> None:
        if self.keep < 0:
            raise DeclarationError(
                f"a mask cannot keep {self.keep} characters", where="Masked", fix="write keep=0, or the number to keep"
            )

    def of(self, text: str) -> str:
        """What is loaded instead of the text."""
        return "***" + (text[-self.keep :] if self.keep and len(text) >= 2 * self.keep else "")


Mask = Hashed | Masked
"""What is loaded instead of a value."""


def refuse_masks(
    masked: Mapping[str, Mask],
    keys: Collection[str],
    ordered: Collection[str | None],
    as_text: Collection[str],
    where: str,
) -> None:
    """`ordered` are the columns whose order a load needs: cursor and partition.

    Raises:
        DeclarationError: a column cannot be masked like that.
    """
    for name, mask in masked.items():
        if not isinstance(mask, Hashed | Masked):
            raise DeclarationError(
                f"masked has {mask!r} for column {name}, which is no mask",
                where=where,
                fix="write Hashed() or Masked(keep=…)",
            )
        if isinstance(mask, Masked) and name in keys:
            raise DeclarationError(
                f"column {name} of the key is masked, and different rows would have one key",
                where=where,
                fix=f'write masked={{"{name}": Hashed()}}',
            )
    if taken := [name for name in masked if name in ordered]:
        raise DeclarationError(
            f"column {', '.join(taken)} is masked, but the cursor or the partition needs its order",
            where=where,
            fix="remove it from masked, or use another cursor or partition",
        )
    if both := [name for name in masked if name in as_text]:
        raise DeclarationError(
            f"column {', '.join(both)} is in both as_text and masked", where=where, fix="remove it from as_text"
        )
