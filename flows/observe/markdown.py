"""Values in Markdown that a browser shows: names of others' columns are text there, whatever they look like."""

from flows.values.visible import visible

# What would be a tag, a link, an image, code or a cell's end.
_MARKS = {
    "\\": "\\\\",
    "|": "\\|",
    "<": "&lt;",
    ">": "&gt;",
    "&": "&amp;",
    "[": "\\[",
    "]": "\\]",
    "`": "\\`",
}


def cell(value: object) -> str:
    """One cell of a table: one line, all of it text."""
    text = visible(" ".join(str(value).split("\n")))
    return "".join(_MARKS.get(character, character) for character in text)
