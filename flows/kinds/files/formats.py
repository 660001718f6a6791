"""How the contents of a file are written."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
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

    @property
    def written(self) -> Csv:
        """How its values are written."""
        return self

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


@dataclass(frozen=True, slots=True)
class FixedWidth:
    """Lines whose columns are at fixed places.

        FixedWidth({"iban": (0, 22), "amount": (22, 36)}, encoding="cp1252", decimal=",")

    `columns` are the first character of each column and the one after its last, from 0. Blanks around a value are no
    part of it, and a blank value is null. A line that is shorter or longer is refused; with `padded=False` it may lack
    blanks at its end. The other options are as for `Csv`.
    """

    columns: Mapping[str, tuple[int, int]]
    padded: bool = True
    encoding: str = "utf-8"
    skip: int = 0
    trailer: str | None = None
    decimal: Literal[".", ","] = "."
    thousands: str = ""
    dates: str | None = None
    zone: str | None = None
    final_newline: FinalNewline = "optional"

    @property
    def written(self) -> Csv:
        """How its lines and values are written: one column, whatever is in it."""
        return Csv(
            delimiter="\x1f",
            quote="",
            encoding=self.encoding,
            header="none",
            skip=self.skip,
            trailer=self.trailer,
            decimal=self.decimal,
            thousands=self.thousands,
            dates=self.dates,
            zone=self.zone,
            final_newline=self.final_newline,
        )

    def __hash__(self) -> int:
        return hash(tuple(self.columns.items()))

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", dict(self.columns))
        _ = self.written
        at = 0
        for name, (first, end) in sorted(self.columns.items(), key=lambda item: item[1]):
            if first < at or end <= first:
                raise DeclarationError(
                    f"column {name} begins before another one ends, or has no characters",
                    where="FixedWidth",
                    fix='write {"iban": (0, 22), "amount": (22, 36)}',
                )
            at = end
        if not self.columns:
            raise DeclarationError("no columns", where="FixedWidth", fix='write FixedWidth({"iban": (0, 22), …})')


@dataclass(frozen=True, slots=True)
class JsonLines:
    """One JSON object a line.

        JsonLines()                      raw has each object as `payload jsonb`, beside the declared columns
        JsonLines(payload=False)         only the declared columns

    A declared column is the field of its name at the top level of an object, null if it lacks it. `dates` and `zone`
    are as for `Csv`.
    """

    payload: bool = True
    dates: str | None = None
    zone: str | None = None

    @property
    def written(self) -> Csv:
        """How its values are written."""
        return Csv(quote="", dates=self.dates, zone=self.zone)

    def __post_init__(self) -> None:
        _ = self.written


@dataclass(frozen=True, slots=True)
class Parquet:
    """Apache Parquet. A column that is not declared has the type of the file."""

    @property
    def written(self) -> Csv:
        """How its values are written as texts."""
        return Csv(quote="")


@dataclass(frozen=True, slots=True)
class Excel:
    """A sheet of a workbook (xlsx, xlsb, xls, ods), which is held in memory.

        Excel()                                the first sheet that is not hidden
        Excel(sheet="Prices", skip=2)          two rows before the header

    A cell that is formatted as a date is one; of a formula, the workbook has the value that was last computed. Whole
    numbers have no decimals. `dates` and `zone` are as for `Csv`, for cells of text.
    """

    sheet: str | None = None
    skip: int = 0
    dates: str | None = None
    zone: str | None = None

    @property
    def written(self) -> Csv:
        """How its values are written."""
        return Csv(quote="", dates=self.dates, zone=self.zone)

    def __post_init__(self) -> None:
        _ = self.written
        if self.skip < 0:
            raise DeclarationError("skip is negative", where="Excel", fix="write how many rows come before the header")


def _refuse_other(value: str, allowed: object, what: str, where: str) -> None:
    if value not in get_args(allowed):
        raise DeclarationError(
            f"{what} {value!r} is unknown", where=where, fix=f"use one of {', '.join(get_args(allowed))}"
        )


Format = Csv | Excel | FixedWidth | JsonLines | Parquet
