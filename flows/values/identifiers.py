"""Quoting of SQL identifiers and literals."""

import re

from flows.values.errors import DeclarationError

# Names of declarations (sources, tables, rules) appear in schemas, file names and run names: keep them plain.
_PLAIN = re.compile(r"[a-z][a-z0-9_]{0,39}")


def quote_identifier(name: str) -> str:
    """`baskets` → `"baskets"`; a double quote inside is doubled."""
    if not name or "\x00" in name:
        raise ValueError("an identifier must not be empty or contain NUL")
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """`it's` → `'it''s'`, for servers with standard_conforming_strings (the default since 9.1).

    A backslash switches to the E'' form, which is independent of that setting.
    """
    if "\x00" in text:
        raise ValueError("a literal must not contain NUL")
    doubled = text.replace("'", "''")
    if "\\" in doubled:
        return "E'" + doubled.replace("\\", "\\\\") + "'"
    return "'" + doubled + "'"


def qualified(schema: str, name: str) -> str:
    """`raw_shop`, `baskets` → `"raw_shop"."baskets"`."""
    return f"{quote_identifier(schema)}.{quote_identifier(name)}"


def require_plain(name: str, what: str, where: str) -> None:
    """Refuse a name that is not valid as schema, file and run name.

    Raises:
        DeclarationError: not lower-case letters, digits and underscores, or over 40 characters.
    """
    if not _PLAIN.fullmatch(name):
        raise DeclarationError(
            f"{what} {name!r} is not a plain name",
            where=where,
            fix="use lower-case letters, digits and underscores, beginning with a letter, at most 40",
        )
