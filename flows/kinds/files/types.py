"""Types of columns, and which texts are values of them.

PostgreSQL takes more than people mean: `0x10` and ` 9 ` for integers, `now` for a time, and it rounds 1.005 to a
numeric(14,2) without a word. So a text is a value if it is written as one (`accepted`) and PostgreSQL can read it.
A text of the narrower form `plain` surely is one, and need not be asked about: Arrow finds these at about 0.15 µs a
value, so that only the others take the way through a second table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ALIASES = {
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "int2": "smallint",
    "decimal": "numeric",
    "float8": "double precision",
    "float": "double precision",
    "double": "double precision",
    "bool": "boolean",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "time": "time without time zone",
    "varchar": "text",
}
_NUMERIC = re.compile(r"(?:numeric|decimal)\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")
_MOST_DIGITS = 1000

_DAY = r"(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])|(0[13578]|1[02])-(29|30|31)|(0[469]|11)-(29|30)"  # all but 29 February
_DATE = rf"[1-9]\d{{3}}-({_DAY})"
_TIME = r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?"
_ANY_DATE = r"\d{4}-\d{2}-\d{2}"
#: What follows a time in its own zone.
OFFSET = r" ?(Z|[+-]\d{2}(:?[0-5]\d)?)"


@dataclass(frozen=True, slots=True)
class Type:
    """A type of raw, and the texts that are values of it, as regular expressions for a whole text.

    Both are without the zone of a time that needs one. `plain` is in the language of RE2, `accepted` in
    PostgreSQL's, where case does not matter; "" for either: every text (`accepted`), or none
    (`plain`). `scale` is how many decimals a numeric keeps; more are refused, and not rounded away.
    """

    name: str
    plain: str
    accepted: str
    scale: int | None = None

    @property
    def is_text(self) -> bool:
        """Whether every text is a value."""
        return self.name == "text"

    @property
    def is_number(self) -> bool:
        """Whether values are written with a decimal point."""
        return self.name.startswith("numeric") or self.name in (*_INTEGERS, "double precision")

    @property
    def is_moment(self) -> bool:
        """Whether values are written as dates."""
        return self.name == "date" or self.name.startswith("timestamp")

    @property
    def has_zone(self) -> bool:
        """Whether a value needs a time zone."""
        return self.name == "timestamp with time zone"


_INTEGERS = {"smallint": 4, "integer": 9, "bigint": 18}
_OTHER = {
    "text": Type("text", "", ""),
    "numeric": Type("numeric", r"[+-]?\d{1,100}(\.\d{1,100})?", r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?"),
    "double precision": Type(
        "double precision",
        r"[+-]?\d{1,15}(\.\d{1,15})?([eE][+-]?\d{1,2})?",
        r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?|NaN|[+-]?(Infinity|inf)",
    ),
    "boolean": Type("boolean", r"(?i:true|false|t|f|yes|no|y|n|1|0)", r"true|false|t|f|yes|no|y|n|on|off|1|0"),
    "date": Type("date", _DATE, _ANY_DATE),
    "timestamp without time zone": Type(
        "timestamp without time zone", rf"{_DATE}([ T]{_TIME})?", rf"{_ANY_DATE}([ T]{_TIME})?"
    ),
    "timestamp with time zone": Type("timestamp with time zone", rf"{_DATE}[ T]{_TIME}", rf"{_ANY_DATE}[ T]{_TIME}"),
    "time without time zone": Type("time without time zone", _TIME, _TIME),
    "uuid": Type("uuid", r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", r"[0-9a-fA-F-]{32,36}"),
    "jsonb": Type("jsonb", "", ""),
}


def raw_type(declared: str) -> str | None:
    """PostgreSQL's long name of a declared type; None if it is not one of those that files can have."""
    text = " ".join(declared.lower().split())
    if (numeric := _NUMERIC.fullmatch(text)) is not None:
        digits, scale = int(numeric[1]), int(numeric[2] or 0)
        return f"numeric({digits},{scale})" if 0 < digits <= _MOST_DIGITS and scale <= digits else None
    text = _ALIASES.get(text, text)
    return text if text in _OTHER or text in _INTEGERS else None


def type_of(name: str) -> Type:
    """How values of a type of raw are written."""
    if (digits := _INTEGERS.get(name)) is not None:
        return Type(name, rf"[+-]?\d{{1,{digits}}}", r"[+-]?\d+")
    if (numeric := _NUMERIC.fullmatch(name)) is not None:
        total, scale = int(numeric[1]), int(numeric[2] or 0)
        whole = rf"[+-]?\d{{1,{total - scale}}}" if total > scale else "[+-]?0"
        decimals = rf"(\.\d{{1,{scale}}})?" if scale else ""
        return Type(name, whole + decimals, _OTHER["numeric"].accepted, scale)
    return _OTHER[name]
