"""Escape control characters in foreign names and messages.

A source's column may have any name: an escape sequence that rewrites the terminal, a line break that forges a log
line, a direction override that disguises a name.
"""

import re

# C0 and C1 controls, Unicode line separators, direction marks and overrides (UAX 9), and surrogates.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_LINES = re.compile("[\t\n]")


def visible(text: str, *, lines: bool = False) -> str:
    r"""Escape every character with an effect instead of a glyph: ESC → `\x1b`.

    Line breaks and tabs are kept if `lines` is set.
    """
    text = _UNSEEN.sub(_written, text)
    return text if lines else _LINES.sub(_written, text)


def _written(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
