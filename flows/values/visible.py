"""Names and messages that others chose, made harmless to look at.

A source's column may be called anything: an escape sequence that rewrites the terminal, a line break that forges a line
of the log, an override of the reading direction that shows a name as another.
"""

import re

# Controls of C0 and C1, line separators of Unicode, marks and overrides of direction (UAX 9), and surrogates.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_LINES = re.compile("[\t\n]")


def visible(text: str, *, lines: bool = False) -> str:
    r"""Each character that does something instead of showing something is written out: ESC → `\x1b`.

    Line breaks and tabs stay where `lines` says that the text may have several.
    """
    text = _UNSEEN.sub(_written, text)
    return text if lines else _LINES.sub(_written, text)


def _written(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
