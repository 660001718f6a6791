"""Checks shared by several declarations."""

from flows.values.errors import DeclarationError


def refuse_repeats(names: list[str], what: str, where: str) -> None:
    """Raises:
    DeclarationError: a name occurs twice.
    """
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DeclarationError(
            f"{what} {', '.join(repeated)} is declared twice", where=where, fix=f"keep one {what} per name"
        )


def unknown_table(source: str, name: str, known: list[str]) -> DeclarationError:
    """The error for a table that is not declared, or not named."""
    if not name:
        return DeclarationError(
            "no table is named",
            where=f"source {source}",
            fix=f"write {source}.TABLE, with one of {', '.join(known)}",
        )
    return DeclarationError(
        f"table {name!r} is not declared", where=f"source {source}", fix=f"use one of {', '.join(known)}"
    )
