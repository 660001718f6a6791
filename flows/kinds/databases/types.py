"""Mapping of source types to raw types: one table per engine other than PostgreSQL.

Values are transferred as text, written by the source and read by PostgreSQL's input functions, without decoding in
between: a decimal of 65 digits or an unsigned bigint arrives unchanged. Values that PostgreSQL's type cannot represent
are `unfit`: the row is quarantined in full, or its column is declared in `Table(as_text=…)` and loaded as text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from flows.declare.database import Engine
from flows.declare.mask import Hashed, Mask
from flows.values.errors import DeclarationError

# How a key's value is written into the condition of the next chunk; "" if it cannot be.
LiteralKind = Literal["number", "text", ""]


@dataclass(frozen=True, slots=True)
class TypeRule:
    """Types of one engine whose lower-case name matches `pattern`.

    In `select` (an expression that yields text) and `unfit` (a condition), `{c}` is the quoted column; in `raw`, `{p}`,
    `{s}` and `{f}` are precision, scale and digits of a second's fraction. `wide`: values have no useful upper length.
    """

    pattern: str
    raw: str
    select: str
    unfit: str = ""
    wide: bool = False
    literal: LiteralKind = ""
    note: str = ""


_MYSQL_TEXT = "convert({c} using utf8mb4)"
_MYSQL_NUL = "instr(cast(convert({c} using utf8mb4) as binary), x'00') > 0"
_MYSQL_ZERO = "(year({c}) = 0 or month({c}) = 0 or dayofmonth({c}) = 0)"
_MYSQL_BYTES = "convert(concat(x'5c78', hex({c})) using utf8mb4)"
_MYSQL_CHAR = "cast({c} as char)"

MYSQL = (
    TypeRule("tinyint( unsigned)?|smallint|year", "smallint", _MYSQL_CHAR, literal="number",
             note="tinyint(1) too: it may hold 2"),
    TypeRule("smallint unsigned|mediumint( unsigned)?|int", "integer", _MYSQL_CHAR, literal="number"),
    TypeRule("int unsigned|bigint", "bigint", _MYSQL_CHAR, literal="number"),
    TypeRule("bigint unsigned", "numeric(20,0)", _MYSQL_CHAR, literal="number", note="bigint ends at half of it"),
    TypeRule("decimal( unsigned)?", "numeric({p},{s})", _MYSQL_CHAR, literal="number", note="up to 65 digits"),
    TypeRule("float( unsigned)?", "real", "cast({c} + 0e0 as char)",
             note="cast directly, it would lose all but 6 digits"),
    TypeRule("double( unsigned)?", "double precision", _MYSQL_CHAR),
    TypeRule("date", "date", _MYSQL_CHAR, _MYSQL_ZERO, note="0000-00-00 and 2017-00-01 do not fit"),
    TypeRule("datetime", "timestamp({f}) without time zone", _MYSQL_CHAR, _MYSQL_ZERO, note="zero dates do not fit"),
    TypeRule("timestamp", "timestamp({f}) with time zone", "concat(cast({c} as char), '+00')", _MYSQL_ZERO,
             note="read in UTC; zero dates do not fit"),
    TypeRule("time", "interval", _MYSQL_CHAR, note="a duration: -838 to 838 hours"),
    TypeRule("char|varchar", "text", _MYSQL_TEXT, _MYSQL_NUL, literal="text",
             note="any character set; a NUL character does not fit"),
    TypeRule("(tiny|medium|long)?text", "text", _MYSQL_TEXT, _MYSQL_NUL, wide=True,
             note="MariaDB's json is longtext; a NUL character does not fit"),
    TypeRule("enum|set", "text", _MYSQL_TEXT, note="the label, or labels with commas"),
    TypeRule("json", "json", _MYSQL_TEXT, wide=True, note="MySQL's; its text as written"),
    TypeRule("bit", "bit({p})", "lpad(bin({c} + 0), {p}, '0')"),
    TypeRule("binary|varbinary", "bytea", _MYSQL_BYTES),
    TypeRule("(tiny|medium|long)?blob|vector", "bytea", _MYSQL_BYTES, wide=True),
    TypeRule("geometry|point|linestring|polygon|multi.*|geom.*", "bytea", _MYSQL_BYTES, wide=True,
             note="4 bytes of SRID, then WKB"),
    TypeRule("uuid", "uuid", _MYSQL_CHAR, note="MariaDB's"),
    TypeRule("inet4|inet6", "inet", _MYSQL_CHAR, note="MariaDB's"),
    TypeRule(".*", "text", _MYSQL_CHAR, wide=True, note="any other type: as the server writes it"),
)  # fmt: skip

# 15 digits if they round-trip to the same number, else 17: 0.1 stays 0.1, and no bit is lost.
_SQLITE_REAL = (
    "case when cast(printf('%!.15g', {c}) as real) = {c} then printf('%!.15g', {c}) else printf('%!.17g', {c}) end"
)
_SQLITE_ANY = (
    f"case typeof({{c}}) when 'blob' then '\\x' || hex({{c}}) when 'real' then {_SQLITE_REAL} "
    "else cast({c} as text) end"
)
_SQLITE_NUL = "typeof({c}) = 'text' and instr({c}, char(0)) > 0"
_DIGITS = "[0-9][0-9]"
_SQLITE_MOMENT = (
    "case when typeof({c}) = 'text' and length({c}) <= 26 and coalesce(datetime({c}), '') = "
    "substr(replace({c}, 'T', ' '), 1, 19) "
    "and (length({c}) = 19 or (substr({c}, 20, 1) = '.' and length({c}) > 20 and substr({c}, 21) not glob '*[^0-9]*')) "
    "then 0 else 1 end = 1"
)

# By SQLite's affinity rules, after the usual names of dates, booleans and JSON.
SQLITE = (
    TypeRule(".*bool.*", "boolean", "cast({c} as text)", "typeof({c}) <> 'integer' or {c} not in (0, 1)",
             note="0 and 1; anything else does not fit"),
    TypeRule("date", "date", "{c}", "typeof({c}) <> 'text' or coalesce(date({c}), '') <> {c}",
             note="2017-12-31; anything else does not fit"),
    TypeRule("datetime.*|timestamp.*", "timestamp without time zone", "{c}", _SQLITE_MOMENT,
             note="2017-12-31 10:00:00, with T and a fraction of up to 6 digits; zones and numbers do not fit"),
    TypeRule("jsonb?", "json", "{c}", "typeof({c}) <> 'text' or not json_valid({c})"),
    TypeRule(".*int.*", "bigint", "cast({c} as text)", "typeof({c}) <> 'integer'", literal="number",
             note="text, reals and blobs in it do not fit"),
    TypeRule(".*(char|clob|text).*", "text", _SQLITE_ANY, f"typeof({{c}}) = 'blob' or ({_SQLITE_NUL})",
             literal="text", note="blobs and NUL characters do not fit"),
    TypeRule(".*blob.*", "bytea", "'\\x' || hex({c})", "typeof({c}) <> 'blob'", note="only blobs fit"),
    TypeRule(".*(real|floa|doub).*", "double precision", _SQLITE_REAL, "typeof({c}) not in ('real', 'integer')"),
    TypeRule("", "text", _SQLITE_ANY, _SQLITE_NUL, note="no declared type: any value; a blob as \\x and hex digits"),
    TypeRule("any|time.*|uuid.*", "text", _SQLITE_ANY, _SQLITE_NUL),
    TypeRule(".*", "numeric", _SQLITE_ANY, "typeof({c}) not in ('real', 'integer')",
             note="decimal, numeric and all other types: SQLite keeps 64 bits"),
)  # fmt: skip

_MSSQL_DATE = "convert(varchar(40), {c}, 121)"
_MSSQL_TEXT = "convert(nvarchar(max), {c})"
_MSSQL_NUL = (
    "charindex(nchar(0) collate Latin1_General_BIN2, convert(nvarchar(max), {c}) collate Latin1_General_BIN2) > 0"
)
_MSSQL_BYTES = "'\\x' + convert(varchar(max), convert(varbinary(max), {c}), 2)"
_MSSQL_PLAIN = "convert(varchar(60), {c})"

MSSQL = (
    TypeRule("bit", "boolean", _MSSQL_PLAIN),
    TypeRule("tinyint|smallint", "smallint", _MSSQL_PLAIN, literal="number"),
    TypeRule("int", "integer", _MSSQL_PLAIN, literal="number"),
    TypeRule("bigint", "bigint", _MSSQL_PLAIN, literal="number"),
    TypeRule("decimal|numeric", "numeric({p},{s})", _MSSQL_PLAIN, literal="number"),
    TypeRule("money|smallmoney", "numeric(19,4)", "convert(varchar(40), {c}, 2)", note="style 2 keeps all 4 decimals"),
    TypeRule("real", "real", "convert(varchar(40), {c}, 3)", note="style 3 loses no bit"),
    TypeRule("float", "double precision", "convert(varchar(40), {c}, 3)", note="style 3 loses no bit"),
    TypeRule("date", "date", _MSSQL_DATE),
    TypeRule("datetime", "timestamp(3) without time zone", _MSSQL_DATE),
    TypeRule("smalldatetime", "timestamp(0) without time zone", _MSSQL_DATE),
    TypeRule("datetime2:[0-6]", "timestamp({f}) without time zone", _MSSQL_DATE),
    TypeRule("time:[0-6]", "time({f}) without time zone", _MSSQL_DATE),
    TypeRule("(datetime2|time):7", "text", _MSSQL_DATE, note="tenths of a microsecond, which PostgreSQL does not keep"),
    TypeRule("datetimeoffset.*", "text", _MSSQL_DATE, note="PostgreSQL would not keep the offset"),
    TypeRule("char|varchar|nchar|nvarchar", "text", _MSSQL_TEXT, _MSSQL_NUL, literal="text",
             note="a NUL character does not fit"),
    TypeRule("text|ntext|xml|varchar:max|nvarchar:max", "text", _MSSQL_TEXT, _MSSQL_NUL, wide=True,
             note="a NUL character does not fit"),
    TypeRule("json", "json", _MSSQL_TEXT, wide=True),
    TypeRule("uniqueidentifier", "uuid", _MSSQL_PLAIN),
    TypeRule("binary|varbinary|timestamp|rowversion", "bytea", _MSSQL_BYTES),
    TypeRule("varbinary:max|image|geometry|geography|hierarchyid", "bytea", _MSSQL_BYTES, wide=True),
    TypeRule(".*", "text", _MSSQL_TEXT, wide=True, note="any other type: as the server writes it"),
)  # fmt: skip

TYPES: dict[Engine, tuple[TypeRule, ...]] = {"mysql": MYSQL, "sqlite": SQLITE, "mssql": MSSQL}

# A column declared in `as_text`: any value.
AS_TEXT: dict[Engine, TypeRule] = {
    "mysql": TypeRule("", "text", _MYSQL_CHAR, wide=True),
    "sqlite": TypeRule("", "text", _SQLITE_ANY, _SQLITE_NUL),
    "mssql": TypeRule("", "text", _MSSQL_TEXT, wide=True),
}


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """A column from the source's catalogue; `octets` bounds its text, 0 if unbounded."""

    name: str
    type: str
    nullable: bool = True
    precision: int = 0
    scale: int = 0
    fraction: int = 0
    octets: int = 0


#: Raw types whose texts are the same at every source.
_HASHED = frozenset({"text", "smallint", "integer", "bigint"})


@dataclass(frozen=True, slots=True)
class TypedColumn:
    """A column with its raw type, and with the expressions that read it and find what does not fit."""

    name: str
    raw_type: str
    select: str
    unfit: str
    nullable: bool
    literal: LiteralKind
    wide: bool
    octets: int
    source_type: str = ""
    mask: Mask | None = None

    def masked(self, mask: Mask | None) -> TypedColumn:
        """The same column, of which a hash or a mask is loaded: any text fits.

        Raises:
            DeclarationError: equal values have texts at this source that differ from those of other sources.
        """
        if mask is None:
            return self
        if isinstance(mask, Hashed) and self.raw_type not in _HASHED:
            raise DeclarationError(
                f"a hash of {self.source_type} would be of this source's own spelling, and join with no other source",
                where=f"column {self.name}",
                fix=f"hash texts and integers only; or take it as text, if that is meant (as_text=({self.name!r},)), "
                "or use Masked() or exclude",
            )
        return replace(self, raw_type="text", unfit="", mask=mask)


def typed(engine: Engine, column: SourceColumn, quoted: str, *, as_text: bool = False) -> TypedColumn:
    """The column by the first rule that matches its type."""
    rule = AS_TEXT[engine] if as_text else next(r for r in TYPES[engine] if re.fullmatch(r.pattern, column.type))
    unfit = rule.unfit.format(c=quoted, p=column.precision)
    return TypedColumn(
        name=column.name,
        raw_type=rule.raw.format(p=column.precision, s=column.scale, f=column.fraction),
        select=rule.select.format(c=quoted, p=column.precision),
        unfit=f"({quoted} is not null and ({unfit}))" if unfit else "",
        nullable=column.nullable,
        literal=rule.literal,
        wide=rule.wide,
        octets=column.octets,
        source_type=column.type,
    )


def types_table(engine: Engine) -> str:
    """The engine's rules as a Markdown table, for the documentation."""
    lines = ["| at the source | in raw | |", "| --- | --- | --- |"]
    for rule in TYPES[engine]:
        pattern = rule.pattern.replace("|", "\\|") or " "
        lines.append(f"| `{pattern}` | `{rule.raw}` | {rule.note} |")
    return "\n".join(lines)
