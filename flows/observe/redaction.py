"""Redaction of text: credentials, keys, and values of rows that PostgreSQL quotes in its messages."""

import re
from collections.abc import Callable, Mapping, Sequence

MASK = "***"

# Words that mark a secret also inside a longer word, as in `dbpassword` or `accessToken`; then short ones that match
# only as full words: not `author`, `passed`, `bypass`, `design`.
_CONFIDENTIAL = (
    r"(?:pass(?:word|wd|phrase)|pwd|secret(?!ar|ion)|token(?!i[sz])|api[-_ ]?key|access[-_ ]?key|authorization"
    r"|credential"
    r"|(?:private|backup|encryption|erasure|account|shared|signing|master)[-_ ]?key|medallion_\w{0,40}key"
    r"|x-[\w-]{0,40}key|cookie|signature|auth(?:key|code|string|header|data)"
    r"|(?:(?<!by)(?<!com)(?<!sur)(?<!tres)(?<!under)pass|auth|dsn|(?<![a-z])sig)(?![a-z]))"
)
# A number under these names is a count, and these values are not secrets.
_COUNTS = re.compile(
    r"(?:tokens|secrets|passwords|credentials|keys|cookies|_(?:count|total|attempts|seconds|limit|length|size|age|days))"
    r"\W*$",
    re.IGNORECASE,
)
_COUNT = re.compile(r"\d{1,9}")
_NOTHING = frozenset({"none", "null", "true", "false", MASK})
# Summaries of dbt and other tools: Done. PASS=12 WARN=0 ERROR=0
_OTHER_OUTCOME = re.compile(r"\b(?:warn\w*|fail\w*|error\w*|skip\w*|total)\s*[=:]\s*\d", re.IGNORECASE)
_SUMMARY_SPAN = 60
# A value quoted by PostgreSQL may span many lines. It ends where the next known part begins.
_UNTIL_NEXT = (
    r"(?s:.*?)(?=\n[ \t]{0,40}(?:(?:DETAIL|HINT|CONTEXT|QUERY|STATEMENT|LOCATION|LINE \d+):|compiled code at |File \")"
    r"|\nTraceback |\nDuring handling |\nThe above exception |\Z)"
)


def _masked(match: re.Match[str]) -> str:
    """The name with its value masked, unless the value is a count or empty."""
    name, value = match["name"], match["value"]
    if value.lower() in _NOTHING:
        return match[0]
    if _COUNT.fullmatch(value) and (_COUNTS.search(name) or _in_summary(match)):
        return match[0]
    return f"{name}{MASK}"


def _in_summary(match: re.Match[str]) -> bool:
    """Whether it is the `PASS=12` of a line that also counts other outcomes."""
    if match["name"].rstrip("=: ").lower() != "pass":
        return False
    around = match.string[max(0, match.start() - _SUMMARY_SPAN) : match.end() + _SUMMARY_SPAN]
    return _OTHER_OUTCOME.search(around) is not None


# It has a digit, a sign, or letters of both cases in the middle, as few words of prose have; a number of days has none.
_NO_WORD = (
    r"(?!\d{1,9}(?:\.\d+)? (?:days?|hours?|minutes?|seconds?|characters?|bytes?|times?|of|rows?)\b)"
    r"(?-i:(?=[^\s│┃|]{0,64}(?:\d|[a-z][A-Z]|[!#$%&*+/<=>?@^_~\\])))"
)
# Lengths are bounded where a pattern may begin anywhere: a source's message of one long word must not block a worker.
_PATTERNS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    # postgresql://role:p@ss/word@host → postgresql://role:***@host: greedy, because a password may hold @ unescaped.
    # A quotation mark ends the URL only if the enclosing text continues after it.
    (
        re.compile(
            r"(?P<scheme>\b[a-z][a-z0-9+.-]{0,30}://[^\s:/@\"']{0,128}):(?:[^\s\"']|[\"'](?![\s,:)}\]]|$)){0,512}@",
            re.IGNORECASE,
        ),
        rf"\g<scheme>:{MASK}@",
    ),
    # https://<key>@host, the form of a Sentry DSN.
    # Database URLs have a role name there.
    (
        re.compile(
            r"(?P<scheme>\b(?!postgres|mysql|mariadb|mssql)[a-z][a-z0-9+.-]{0,30}://)[^\s:/@\"']{8,256}@", re.IGNORECASE
        ),
        rf"\g<scheme>{MASK}@",
    ),
    # URLs that are secrets themselves.
    (
        re.compile(r"(?P<host>\bhttps://(?:hooks\.slack\.com|[\w.-]*webhook\.office\.com)/)[^\s\"']+"),
        rf"\g<host>{MASK}",
    ),
    (re.compile(r"(?P<name>[?&]key=)[^\s\"'&]+", re.IGNORECASE), rf"\g<name>{MASK}"),
    # A code of a login; a short number is a status.
    (re.compile(r"(?P<name>[?&]code=)(?!\d{1,5}(?![\w-]))[^\s\"'&]+", re.IGNORECASE), rf"\g<name>{MASK}"),
    # The same percent-encoded, once or twice, as a parameter of another URL.
    (
        re.compile(
            r"(?P<scheme>\b[a-z][a-z0-9+.-]{0,30}%(?:25)?3A%(?:25)?2F%(?:25)?2F[^\s%/@\"']{0,128}%(?:25)?3A)"
            r"(?:(?!%(?:25)?40)[^\s\"'&]){0,512}(?P<at>%(?:25)?40)",
            re.IGNORECASE,
        ),
        rf"\g<scheme>{MASK}\g<at>",
    ),
    (
        re.compile(
            rf"(?P<name>{_CONFIDENTIAL}\w{{0,40}}%(?:25)?3[AD])(?P<value>(?:(?!%(?:25)?26)[^\s\"'&,;)]){{1,512}})",
            re.IGNORECASE,
        ),
        _masked,
    ),
    # age keys, PEM and JSON web tokens, recognisable by their format.
    (re.compile(r"\bAGE-SECRET-KEY-1\w+", re.IGNORECASE), MASK),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"), MASK),
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]+\.[\w-]+"), MASK),
    # Keys of GitHub, GitLab, Slack, AWS, Stripe, Google, SendGrid, Hugging Face, npm, PyPI, Databricks and Shopify.
    (
        re.compile(
            r"(?<![\w-])(?:gh[opusr]_\w{20,255}|github_pat_\w{20,255}|glpat-[\w-]{15,255}|xox[abeprs]-[\w-]{10,255}"
            r"|(?:AKIA|ASIA)[A-Z0-9]{16}|[sr]k_(?:live|test)_\w{10,255}|AIza[\w-]{30,255}|ya29\.[\w-]{20,255}"
            r"|SG\.[\w-]{16,64}\.[\w-]{16,64}|hf_\w{20,255}|npm_\w{30,255}|pypi-[\w-]{20,255}|dapi[0-9a-f]{32}"
            r"|shp(?:at|ca|pa|ss)_[0-9a-f]{32})(?![\w-])"
        ),
        MASK,
    ),
    # the password is hunter2, | api_key | 3f2a91 |: what is no plain word. "password is required" is prose.
    (
        re.compile(
            rf"(?P<name>{_CONFIDENTIAL}[\w-]{{0,40}}(?: (?:is|was)(?: now)?:? +|[\"'`]? {{0,40}}[│┃|] {{0,40}}))"
            rf"(?P<value>\"[^\"\n]{{1,512}}\"|'[^'\n]{{1,512}}'|`[^`\n]{{1,512}}`|{_NO_WORD}[^\s│┃|]{{1,512}})",
            re.IGNORECASE,
        ),
        _masked,
    ),
    # Errors of pydantic have what was given.
    (re.compile(r"(?P<name>\binput_value=)(?s:.{0,9000}?)(?=, input_type=)"), rf"\g<name>{MASK}"),
    # Authorization: Token abc, for schemes that are not listed below; Cookie: a=b; session=abc
    (
        re.compile(
            r"(?P<name>authorization[\"']?\s*[:=]\s*)(?!(?:bearer|basic|digest)\b)[A-Za-z][\w-]*\s+[^\s\"']{6,}",
            re.IGNORECASE,
        ),
        rf"\g<name>{MASK}",
    ),
    (re.compile(r"(?P<name>\bcookie: *)[^\n\"']+", re.IGNORECASE), rf"\g<name>{MASK}"),
    # Authorization: Bearer abc → the scheme and what follows it, before the general form eats only the scheme.
    (
        re.compile(r"(?P<name>authorization[\"']?\s*[:=]\s*[\"']?(?:bearer|basic|digest))\s+[^\s\"']+", re.IGNORECASE),
        rf"\g<name> {MASK}",
    ),
    # Without the header's name, a word of prose is not a scheme: "basic settings", "digest authentication".
    (
        re.compile(
            r"\b(?P<name>bearer|basic|digest)\s+(?-i:(?![a-z]+(?![\w.~+/=-])))[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE
        ),
        rf"\g<name> {MASK}",
    ),
    # password=…, 'X-API-Key': '…', "api_key": "…", token: … and the same inside a longer name (warehouse_password).
    (
        re.compile(
            # A comma may follow a quoted name only: what follows "the token," is prose.
            rf"(?P<name>{_CONFIDENTIAL}\w{{0,40}}\\{{0,8}}(?:[\"']?\s*[=:]\s*b?|[\"']\s*,\s*b?(?=[\"'\\])))"
            # JSON inside JSON has escaped quotation marks; user and password are a pair.
            r"(?P<value>\\+[\"'].*?\\+[\"']|\([^)]*\)|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
            r"|(?!(?:bearer|basic|digest)\b)[^\s\"'&,;)}\]]+)",
            re.IGNORECASE,
        ),
        _masked,
    ),
    # Messages in which PostgreSQL and its drivers quote values of rows.
    (
        re.compile(rf"\b(?P<name>DETAIL|CONTEXT|QUERY|STATEMENT|LINE \d+):(?!\s*\*\*\*){_UNTIL_NEXT}"),
        rf"\g<name>: {MASK}",
    ),
    (re.compile(rf"(?P<name>Failing row contains) \((?!\*\*\*\)){_UNTIL_NEXT}"), rf"\g<name> ({MASK})"),
    (re.compile(r"(?P<name>Key \([^)\n]*\))=\((?s:.{0,9000}?)\)(?= |$|\n)"), rf"\g<name>=({MASK})"),
    # invalid input syntax for type integer: "…", value "…" is out of range, and similar messages.
    (
        re.compile(r"(?P<name>invalid (?:input|byte)[^:\n]*: )(?:\"(?s:.*?)\"(?=[\s.,;)]*(?:\n|\Z))|\".*\"|\S+)"),
        rf"\g<name>{MASK}",
    ),
    (re.compile(r"(?P<name>\bvalue )\"(?s:.{0,9000}?)\"(?= is out of range)"), rf"\g<name>{MASK}"),
    (
        re.compile(r"(?P<name>malformed \w{1,20} literal: )\"(?s:.*?)\"(?=[\s.,;)]*(?:\n|\Z))"),
        rf"\g<name>{MASK}",
    ),
    (re.compile(r"(?P<name>\btime zone )\"(?s:.{0,9000}?)\"(?= not recognized)"), rf"\g<name>{MASK}"),
    (re.compile(r"(?P<name>\binvalid value )\"(?s:.{0,9000}?)\"(?= for )"), rf"\g<name>{MASK}"),
    (
        re.compile(rf"(?P<name>\bCOPY [^\n]{{1,200}}?, line \d+[^:\n]{{0,200}}: )(?!\*\*\*){_UNTIL_NEXT}"),
        rf"\g<name>{MASK}",
    ),
    (re.compile(r"(?P<name>date/time field value out of range: )\"(?s:.*?)\"(?=\s|\Z)"), rf"\g<name>{MASK}"),
)
_SECRET_NAME = re.compile(rf"^[\w-]*{_CONFIDENTIAL}[\w-]*$", re.IGNORECASE)


def redact(text: str) -> str:
    """The text without credentials, keys and quoted values of rows.

    `postgresql://loader:s3cret@db/warehouse` → `postgresql://loader:***@db/warehouse`. It works on the forms that are
    known, so it is the second line of defence: our own errors contain no secrets in the first place.
    """
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact_value(value: object) -> object:
    """The same for nested mappings and sequences; a value under a secret's name is masked completely."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bytes):
        return redact(value.decode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return {
            key: MASK if isinstance(key, str) and _is_secret(key, item) else redact_value(item)
            for key, item in value.items()
        }
    if isinstance(value, Sequence):
        return [redact_value(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact(str(value))


def _is_secret(name: str, value: object) -> bool:
    counted = isinstance(value, int) and _COUNTS.search(name) is not None
    return _SECRET_NAME.match(name) is not None and not counted
