"""How the contents of a file are written."""

import codecs
import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

from flows.values.errors import DeclarationError

Header = Literal["by_name", "by_position", "none"]
FinalNewline = Literal["optional", "required"]

#: Parts of a declared date, with the length of their digits.
DATE_PARTS = {"YYYY": 4, "MM": 2, "DD": 2, "HH24": 2, "MI": 2, "SS": 2}
_PART = re.compile("|".join(DATE_PARTS))


@dataclass(frozen=True, slots=True)
class Csv:
    """Delimited text.

        Csv()                                                         commas, UTF-8, a header, ISO dates
        Csv(delimiter=";", encoding="cp1252", decimal=",", thousands=".", dates="DD.MM.YYYY")
        Csv(skip=2, trailer=r"^T;(?P<rows>\\d+)")                     two lines before the header, a count at the end

    `delimiter` and `quote` are one character each; `quote=""` gives quotes no meaning. `nulls` are the unquoted texts
    that mean null; a quoted empty text is null in a column that is no text.
    `header`: "by_name" finds columns by their headers, in any order; "by_position" skips the header, and takes the
    declared columns in order; "none" has no header.
    `skip` lines are left out before the header. `trailer` is a regular expression for the last line, which is no row;
    its group `rows`, if it has one, is the number of rows. A file without it was cut short.
    `decimal` and `thousands` are how numbers are written, `dates` how dates and times are (YYYY MM DD HH24 MI SS), and
    `zone` is that of times without one, for columns of type `timestamp with time zone`.
    `final_newline="required"` takes a file whose last line does not end for one that was cut short.
    """

    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    header: Header = "by_name"
    skip: int = 0
    trailer: str | None = None
    nulls: tuple[str, ...] = ("",)
    decimal: Literal[".", ","] = "."
    thousands: str = ""
    dates: str | None = None
    zone: str | None = None
    final_newline: FinalNewline = "optional"

    def __post_init__(self) -> None:
        where = "Csv"
        if len(self.delimiter) != 1 or not self.delimiter.isascii() or self.delimiter in "\r\n\0":
            raise DeclarationError(
                f"the delimiter is {self.delimiter!r}, and not one ASCII character",
                where=where,
                fix='write one, such as ";" or "\\t"; files with longer delimiters cannot be read',
            )
        if len(self.quote) > 1 or not self.quote.isascii() or self.quote in ("\r", "\n", self.delimiter):
            raise DeclarationError(
                f"the quote is {self.quote!r}, and not one ASCII character besides the delimiter",
                where=where,
                fix='write one, or "" if quotes have no meaning',
            )
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise DeclarationError(
                f"encoding {self.encoding!r} is unknown", where=where, fix='write "utf-8", "cp1252", "utf-16", …'
            ) from None
        _refuse_other(self.header, Header, "header", where)
        _refuse_other(self.final_newline, FinalNewline, "final_newline", where)
        if self.skip < 0:
            raise DeclarationError("skip is negative", where=where, fix="write how many lines come before the header")
        if self.decimal not in (".", ",") or self.thousands == self.decimal or len(self.thousands) > 1:
            raise DeclarationError(
                f"decimal {self.decimal!r} and thousands {self.thousands!r} do not say how a number is written",
                where=where,
                fix='write decimal="," and thousands=".", for example',
            )
        if isinstance(cast("object", self.nulls), str):
            raise DeclarationError(
                "nulls is one text, not a tuple of texts", where=where, fix=f'write nulls=("{self.nulls}",)'
            )
        self._refuse_trailer(where)
        self._refuse_dates(where)

    def _refuse_trailer(self, where: str) -> None:
        if self.trailer is None:
            return
        try:
            re.compile(self.trailer)
        except re.error as problem:
            raise DeclarationError(
                f"the trailer is no regular expression: {problem}", where=where, fix=r'write r"^T;(?P<rows>\d+)"'
            ) from None

    def _refuse_dates(self, where: str) -> None:
        if self.dates is None:
            return
        parts = _PART.findall(self.dates)
        if not {"YYYY", "MM", "DD"} <= set(parts) or len(parts) != len(set(parts)):
            raise DeclarationError(
                f"dates={self.dates!r} does not say where year, month and day are",
                where=where,
                fix='write "DD.MM.YYYY", or with a time "DD.MM.YYYY HH24:MI:SS"',
            )


def _refuse_other(value: str, allowed: object, what: str, where: str) -> None:
    if value not in get_args(allowed):
        raise DeclarationError(
            f"{what} {value!r} is unknown", where=where, fix=f"use one of {', '.join(get_args(allowed))}"
        )


Format = Csv
