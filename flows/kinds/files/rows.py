"""Rows of a file, whatever its format: Arrow's columns of text, with the line on which each row begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

#: Rules that a row breaks which cannot be divided into columns.
RAGGED, OPEN_QUOTE, NOT_UTF8, HOLDS_NUL = "row_has_all_columns", "quotes_closed", "text_is_utf8", "text_holds_no_nul"
#: Bytes of a block, and of a block for files with longer rows. Memory holds a few of them.
BLOCKS = (1 << 20, 1 << 25)


class RowTooLong(Exception):
    """A row does not fit into a block."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is refused: the line on which it begins, the rule that it breaks, and its text."""

    line: int
    rule: str
    text: str


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as an Arrow record batch of texts, and their lines (an Arrow array)."""

    batch: Any
    lines: Any


class FormatRows(Protocol):
    """The rows of one file in some format."""

    @property
    def bad(self) -> list[BadRow]:
        """The refused rows."""

    @property
    def types(self) -> Mapping[str, str]:
        """The types that the file itself gives its columns."""

    @property
    def rows(self) -> int:
        """All rows read so far, bad ones as well."""

    def header(self, declared: Sequence[str]) -> list[str]:
        """The names of the columns."""

    def batches(self, block: int) -> Iterator[Rows]:
        """The rows, block by block."""
