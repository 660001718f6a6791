"""Which files belong to a table: a pattern with the parts of a path that become columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from flows.values.errors import DeclarationError

_TOKEN = re.compile(r"\{(?P<name>[a-z_][a-z0-9_]*)(?::(?P<form>[^}]*))?\}|(?P<deep>\*\*/)|(?P<any>\*)|(?P<one>\?)")
_DIRECTIVES = {"%Y": r"\d{4}", "%m": r"\d{2}", "%d": r"\d{2}", "%H": r"\d{2}", "%M": r"\d{2}", "%S": r"\d{2}",
               "%y": r"\d{2}", "%j": r"\d{3}"}  # fmt: skip
_DIRECTIVE = re.compile(r"%.")
_OF_TIMES = ("%H", "%M", "%S")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern of paths, as it was declared.

        in/{account}/{day:%Y-%m-%d}*.csv.gz

    `*` and `?` stand for characters of a name, `**/` for folders, `{account}` for a part that becomes a column of text,
    and `{day:%Y-%m-%d}` for one that becomes a date (or a timestamp, with an hour).
    """

    text: str
    _expression: re.Pattern[str] = field(init=False, repr=False, compare=False)
    _forms: Mapping[str, str] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        where = f"match {self.text!r}"
        if not self.text or self.text.startswith("/") or ".." in self.text.split("/"):
            raise DeclarationError(
                "the pattern does not stay within the folder of the connection URL",
                where=where,
                fix='write it from there, such as "in/*.csv"',
            )
        parts, forms, at = [], dict[str, str](), 0
        for token in _TOKEN.finditer(self.text):
            parts.append(re.escape(self.text[at : token.start()]))
            at = token.end()
            if (name := token["name"]) is None:
                parts.append("(?:[^/]+/)*" if token["deep"] else "[^/]*" if token["any"] else "[^/]")
                continue
            if name in forms:
                raise DeclarationError(f"{{{name}}} is there twice", where=where, fix="give each part its own name")
            forms[name] = token["form"] or ""
            parts.append(f"(?P<{name}>{_shape(forms[name], where)})")
        rest = self.text[at:]
        if "{" in rest or "}" in rest:
            raise DeclarationError(
                "a brace names no column", where=where, fix="write {name} or {name:%Y-%m-%d}, in lower-case letters"
            )
        object.__setattr__(self, "_expression", re.compile("".join([*parts, re.escape(rest)])))
        object.__setattr__(self, "_forms", forms)

    @property
    def columns(self) -> dict[str, str]:
        """The columns that are made of the path, and their types."""
        return {name: _type(form) for name, form in self._forms.items()}

    @property
    def folder(self) -> str:
        """The folder above all files that can match; empty for that of the connection URL."""
        fixed = re.split(r"[{*?]", self.text, maxsplit=1)[0]
        return fixed.rpartition("/")[0]

    @property
    def is_deep(self) -> bool:
        """Whether files may be at any depth."""
        return "**/" in self.text

    @property
    def depth(self) -> int:
        """How many folders a path has, unless it is deep."""
        return self.text.count("/")

    def of(self, path: str) -> dict[str, str] | None:
        """The values of the columns for a path, as PostgreSQL reads them; None if it does not match."""
        found = self._expression.fullmatch(path)
        if found is None:
            return None
        values = found.groupdict()
        for name, form in self._forms.items():
            if form:
                try:
                    moment = datetime.strptime(values[name], form)
                except ValueError:
                    return None
                values[name] = moment.isoformat(" ") if _type(form) != "date" else moment.date().isoformat()
        return values

    def order(self, path: str) -> tuple[tuple[str, ...], list[tuple[int, int | str]]]:
        """By which files are ordered: dates of their paths first, then the paths, numbers in them as numbers."""
        values = self.of(path) or {}
        dates = tuple(values[name] for name, form in self._forms.items() if form and name in values)
        parts = re.split(r"(\d+)", path)
        return dates, [(1, int(part)) if part.isdecimal() else (0, part) for part in parts if part]


def _shape(form: str, where: str) -> str:
    if not form:
        return "[^/]+?"
    parts, at = [], 0
    for directive in _DIRECTIVE.finditer(form):
        if directive[0] not in _DIRECTIVES:
            raise DeclarationError(
                f"{directive[0]} is no part of a date", where=where, fix=f"use {' '.join(_DIRECTIVES)}"
            )
        parts += [re.escape(form[at : directive.start()]), _DIRECTIVES[directive[0]]]
        at = directive.end()
    if not parts:
        raise DeclarationError(f"{form!r} is no form of a date", where=where, fix="write {day:%Y-%m-%d}")
    return "".join([*parts, re.escape(form[at:])])


def _type(form: str) -> str:
    if not form:
        return "text"
    return "timestamp without time zone" if any(part in form for part in _OF_TIMES) else "date"
