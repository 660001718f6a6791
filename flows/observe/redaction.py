"""Words that must not leave: credentials, keys, and the values of rows that PostgreSQL quotes in its messages."""

import re
from collections.abc import Mapping, Sequence

MASK = "***"

_CONFIDENTIAL = (
    r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[-_ ]?key|access[-_ ]?key|authorization|auth|credential"
    r"|x-[\w-]*key|cookie|dsn|sig(?:nature)?)"
)
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # postgresql://role:p@ss/word@host → postgresql://role:***@host: greedy, because a password may hold @ unescaped.
    (re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://[^\s:/@\"']*):[^\s\"']*@", re.IGNORECASE), rf"\g<scheme>:{MASK}@"),
    # https://<key>@host, the form of a Sentry DSN.
    (re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)[^\s:/@\"']{8,}@", re.IGNORECASE), rf"\g<scheme>{MASK}@"),
    # Authorization: Bearer abc → the scheme and what follows it, before the general form eats only the scheme.
    (re.compile(r"\b(?P<name>bearer|basic|digest)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE), rf"\g<name> {MASK}"),
    # password=…, 'X-API-Key': '…', "api_key": "…", token: … and the same inside a longer name (warehouse_password).
    (
        re.compile(
            rf"(?P<name>[\w-]*{_CONFIDENTIAL}\w*[\"']?\s*[=:,]\s*b?)"
            r"(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|(?!(?:bearer|basic|digest)\b)[^\s\"'&,;)}\]]+)",
            re.IGNORECASE,
        ),
        rf"\g<name>{MASK}",
    ),
    # The lines where PostgreSQL and its drivers put values of rows. They run to the end of the line.
    (re.compile(r"\b(?P<name>DETAIL|CONTEXT|QUERY|STATEMENT|LINE \d+):(?!\s*\*\*\*).*"), rf"\g<name>: {MASK}"),
    (re.compile(r"(?P<name>Failing row contains) \(.*"), rf"\g<name> ({MASK})"),
    (re.compile(r"(?P<name>Key \([^)\n]*\))=\(.*?\)(?= |$|\n)"), rf"\g<name>=({MASK})"),
    # invalid input syntax for type integer: "…", value "…" is out of range, and their kin.
    (re.compile(r"(?P<name>invalid (?:input|byte)[^:\n]*: )(?:\".*\"|\S+)"), rf"\g<name>{MASK}"),
    (re.compile(r"(?P<name>\bvalue )\".*\"(?= is out of range)"), rf"\g<name>{MASK}"),
    (re.compile(r"(?P<name>date/time field value out of range: )\".*\""), rf"\g<name>{MASK}"),
)
_SECRET_NAME = re.compile(rf"^[\w-]*{_CONFIDENTIAL}[\w-]*$", re.IGNORECASE)


def redact(text: str) -> str:
    """The text without credentials, keys and quoted values of rows.

    `postgresql://loader:s3cret@db/warehouse` → `postgresql://loader:***@db/warehouse`. It works on the forms that are
    known, so it is the second line of defence: our own errors hold no secrets in the first place.
    """
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact_value(value: object) -> object:
    """The same for what is nested in mappings and sequences; what stands under a secret's name is masked whole."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bytes):
        return redact(value.decode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return {
            key: MASK if isinstance(key, str) and _SECRET_NAME.match(key) else redact_value(item)
            for key, item in value.items()
        }
    if isinstance(value, Sequence):
        return [redact_value(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact(str(value))
