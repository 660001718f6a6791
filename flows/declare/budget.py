"""How much a load or a run may read before it stops at its next commit."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from flows.values.errors import DeclarationError

#: The name of the Prefect state (of type completed) of a run that stopped at a budget. Prefect names its events by it.
STOPPED_AT_BUDGET = "Stopped at budget"
_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be read at most; declared of a table for each load, and of a source for each run.

        Budget(rows=1_000_000)
        Budget(bytes="10 GB", minutes=30)          whichever is reached first
        Budget(money=5)                            in the currency of MEDALLION_PRICE_PER_GB and the other prices

    A load that reaches it stops at its next commit, and the next run goes on from there. One that cannot stop in the
    middle is refused before it begins, if it is known to need more.

    Raises:
        DeclarationError: nothing is limited, or a limit is no number above zero.
    """

    rows: int | None = None
    bytes: int | str | None = None
    minutes: float | None = None
    money: float | None = None

    def __post_init__(self) -> None:
        limits = {name: getattr(self, name) for name in ("rows", "minutes", "money")} | {"bytes": self.size}
        if all(limit is None for limit in limits.values()):
            raise DeclarationError("the budget limits nothing", where="budget", fix="write Budget(rows=1_000_000)")
        for name, limit in limits.items():
            if limit is not None and not _is_limit(limit, whole=name in ("rows", "bytes")):
                raise DeclarationError(
                    f"{limit!r} is no limit of {name}", where="budget", fix=f"write a number above 0: Budget({name}=10)"
                )

    @property
    def size(self) -> int | None:
        """`bytes` as a number."""
        if not isinstance(self.bytes, str):
            return self.bytes
        form = _SIZE.fullmatch(self.bytes)
        if form is None or form[2].lower() not in _UNITS:
            raise DeclarationError(
                f"{self.bytes!r} is not a size", where="budget", fix="write it like '500 MB', '10 GB', '1 TB'"
            )
        return int(float(form[1]) * _UNITS[form[2].lower()])


def _is_limit(limit: Any, *, whole: bool) -> bool:
    if isinstance(limit, bool) or not isinstance(limit, int if whole else (int, float)):
        return False
    return limit > 0 and math.isfinite(limit)


def refuse_budget(declared: Any, where: str) -> None:
    """Raises: DeclarationError: it is no Budget."""
    if declared is not None and not isinstance(declared, Budget):
        raise DeclarationError("budget is not a Budget", where=where, fix="write budget=Budget(rows=1_000_000)")


def chosen_budget(
    rows: int | None = None, size: int | str | None = None, minutes: float | None = None, money: float | None = None
) -> Budget | None:
    """The budget of these limits; None if there is none."""
    limits = (rows, size, minutes, money)
    return None if all(limit is None for limit in limits) else Budget(*limits)
