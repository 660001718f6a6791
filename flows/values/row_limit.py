"""The row limit for development: how many rows a load reads at most, and what says that a load was limited."""

from __future__ import annotations

from flows.values.errors import ConfigurationError, DeclarationError
from flows.values.settings import settings

_VARIABLE = "MEDALLION_ROW_LIMIT"

#: The strategy of a limited load, and its result, in the ledger.
LIMITED = "limited"


def row_limit() -> int | None:
    """How many rows a load may read; None without a limit.

    Raises:
        ConfigurationError: the environment is production.
    """
    limit = settings().row_limit
    if limit is not None and settings().environment == "production":
        raise ConfigurationError(
            "a row limit is set, and this environment is production: tables would lack rows",
            where=_VARIABLE,
            fix=f"unset {_VARIABLE}, or leave out --limit",
        )
    return limit


def refuse_limit(what: str, where: str, fix: str = f"run it without --limit, and with {_VARIABLE} unset") -> None:
    """For what reads more than a limited load, or cannot be limited.

    Raises:
        DeclarationError: a row limit is set.
        ConfigurationError: the environment is production.
    """
    if (limit := row_limit()) is not None:
        raise DeclarationError(f"{what}, and a row limit of {limit:,} is set", where=where, fix=fix)


def in_words(limit: int) -> str:
    """What a limited load says of itself."""
    return f"limited to {limit:,} rows for development: not a full load"
