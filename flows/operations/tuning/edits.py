"""The edit of a declaration in flows/sources, as a diff: nothing is written."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path

from flows.values.settings import PROJECT_ROOT

_SOURCES = PROJECT_ROOT / "flows" / "sources"
_WIDTH = 120
#: New arguments stand before the first of these.
_BEFORE = ("load", "schedule", "tables")


def table_edit(source: str, table: str, arguments: Mapping[str, str], root: Path = _SOURCES) -> str:
    """The diff that sets arguments of the declared table; of one that is not a literal, the arguments in words."""
    for path, text, call in _calls(root, source):
        for inner in ast.walk(call):
            if inner is not call and isinstance(inner, ast.Call) and _first_argument(inner) == table:
                return _diff(path, text, inner, arguments)
    return _in_words(f"{source}.{table}", arguments)


def source_edit(source: str, arguments: Mapping[str, str], root: Path = _SOURCES) -> str:
    """The same for arguments of the source."""
    for path, text, call in _calls(root, source):
        return _diff(path, text, call, arguments)
    return _in_words(source, arguments)


def _calls(root: Path, source: str) -> Iterator[tuple[Path, str, ast.Call]]:
    """The calls that declare the source, by their first argument."""
    for path in sorted(root.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            value = getattr(node, "value", None)
            if isinstance(value, ast.Call) and _first_argument(value) == source:
                yield path, text, value


def _first_argument(call: ast.Call) -> object:
    first = call.args[0] if call.args else next((word.value for word in call.keywords if word.arg == "name"), None)
    return first.value if isinstance(first, ast.Constant) else None


def _in_words(where: str, arguments: Mapping[str, str]) -> str:
    return f"# declaration of {where}\n" + ", ".join(f"{name}={value}" for name, value in arguments.items())


def _diff(path: Path, text: str, call: ast.Call, arguments: Mapping[str, str]) -> str:
    changed = _imported(_edited(text, call, arguments), arguments)
    name = path.relative_to(PROJECT_ROOT).as_posix() if path.is_relative_to(PROJECT_ROOT) else path.name
    lines = difflib.unified_diff(text.splitlines(), changed.splitlines(), f"a/{name}", f"b/{name}", lineterm="", n=2)
    return "\n".join(lines)


def _edited(text: str, call: ast.Call, arguments: Mapping[str, str]) -> str:
    """Present arguments are replaced, absent ones follow the first; from the end, so that places stay valid."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    content = text.encode()

    def place(line: int | None, column: int | None) -> int:
        return starts[(line or 1) - 1] + (column or 0)

    present = {word.arg: word for word in call.keywords if word.arg in arguments}
    edits = [
        (
            place(word.lineno, word.col_offset),
            place(word.end_lineno, word.end_col_offset),
            f"{name}={arguments[name]}",
        )
        for name, word in present.items()
        if name is not None
    ]
    absent = [f"{name}={value}" for name, value in arguments.items() if name not in present]
    if absent:
        anchor = next((word for word in call.keywords if word.arg in _BEFORE), call.keywords[0])
        own_lines = anchor.lineno != call.lineno
        separator = f",\n{' ' * anchor.col_offset}" if own_lines else ", "
        at = place(anchor.lineno, anchor.col_offset)
        edits.append((at, at, separator.join(absent) + separator))
    for start, end, new in sorted(edits, reverse=True):
        content = content[:start] + new.encode() + content[end:]
    return content.decode()


def _imported(text: str, arguments: Mapping[str, str]) -> str:
    """With the words of flows.declare that the new arguments use."""
    used = {
        node.func.id
        for value in arguments.values()
        for node in ast.walk(ast.parse(value, mode="eval"))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and node.module == "flows.declare":
            names = sorted({alias.name for alias in node.names} | used)
            if len(names) == len(node.names):
                return text
            line = f"from flows.declare import {', '.join(names)}"
            if len(line) > _WIDTH:
                line = "from flows.declare import (\n" + "".join(f"    {name},\n" for name in names) + ")"
            lines = text.splitlines(keepends=True)
            return "".join([*lines[: node.lineno - 1], line + "\n", *lines[node.end_lineno :]])
    return text
