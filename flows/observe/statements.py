"""SQL as a template: which statement it is, without any value that stands in it."""

import re

#: Longer statements are cut, before and after values are taken out.
_READ, _SHOWN = 8_000, 1_000
_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*(?s:.*?)(?:\*/|\Z))
    |(?P<name>"(?:[^"]|"")*(?:"|\Z))
    |(?P<text>[eE]'(?:[^'\\]|\\(?s:.)|'')*(?:'|\Z)|'(?:[^']|'')*(?:'|\Z)|\$(?P<tag>\w*)\$(?s:.*?)(?:\$(?P=tag)\$|\Z))
    |(?P<kept>\$\d+|[^\W\d]\w*)
    |(?P<number>\d[\w.]*)""",
    re.VERBOSE,
)
_SEVERAL = re.compile(r"\?(?:\s*,\s*\?)+")
_SPACE = re.compile(r"\s+")
_ABOUT = re.compile(
    r'\b(?:into|from|update|table|copy)\s+(?:only\s+|if\s+(?:not\s+)?exists\s+)?((?:[\w"]+\.)?[\w"]+)', re.IGNORECASE
)


def template(sql: str) -> str:
    """The statement with `?` for every text and number, without comments: select * from shop.baskets where id = ?"""
    bare = _TOKEN.sub(_without_value, sql[:_READ])
    return _SPACE.sub(" ", _SEVERAL.sub("?", bare)).strip()[:_SHOWN]


def _without_value(found: re.Match[str]) -> str:
    if found["comment"] is not None:
        return " "
    return "?" if found["text"] is not None or found["number"] is not None else found[0]


def operation(bare: str) -> str:
    """The first word of a template, in capitals."""
    word = re.match(r"\w+", bare)
    return word[0].upper() if word else "SQL"


def summary(bare: str) -> str:
    """A name for a template: its first word, and the table it is about. `INSERT ops.runs`"""
    about = _ABOUT.search(bare)
    return f"{operation(bare)} {about[1]}" if about else operation(bare)
