"""Values in Markdown that a browser renders: names from sources are escaped, whatever they look like."""

from flows.values.visible import visible

# Characters that would start a tag, link, image or code, or end a cell.
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
    """One cell of a table: a single line of plain text."""
    text = visible(" ".join(str(value).split("\n")))
    return "".join(_MARKS.get(character, character) for character in text)
