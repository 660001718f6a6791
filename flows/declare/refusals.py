"""What several declarations refuse."""

from flows.values.errors import DeclarationError


def refuse_repeats(names: list[str], what: str, where: str) -> None:
    """Raises:
    DeclarationError: a name stands there twice.
    """
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DeclarationError(
            f"{what} {', '.join(repeated)} is declared twice", where=where, fix=f"keep one {what} of each name"
        )


def unknown_table(source: str, name: str, known: list[str]) -> DeclarationError:
    """The error for a table that nobody declared."""
    return DeclarationError(
        f"no table {name!r} is declared", where=f"source {source}", fix=f"choose among {', '.join(known)}"
    )
