"""A query as a table: one statement of PostgreSQL that reads, checked before it is put into another one.

The query is code of the declaration, reviewed like it. It is checked all the same: a bracket too many, or a second
statement, would make other statements than the ones that are meant of those that read it. Reading sessions are
read-only, whatever a query says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from flows.values.errors import DeclarationError

_READS = frozenset(("select", "with", "values", "table", "("))
_DOLLAR = re.compile(r"\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$")
# PostgreSQL ends a comment at either, and joins texts that stand in lines of their own.
_LINE_END = re.compile(r"[\r\n]")
_CONTINUED = re.compile(r"(?:\s|--[^\r\n]*)*'")
_WORD = re.compile(r"[\w$\u0080-\uffff]+")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class _Token:
    """A word, sign or quoted text, and where it ends. Comments are none."""

    text: str
    end: int


@lru_cache(maxsize=512)
def body(query: str, where: str) -> str:
    """The query without what follows it: semicolons and comments.

    Raises:
        DeclarationError: it is not one statement that reads.
    """
    depth, end, ended, first = 0, 0, False, ""
    for token in _tokens(query, where):
        if token.text == ";" and depth == 0:
            ended = True
            continue
        if ended:
            raise _refusal("there is more than one statement", where, "declare one table for each")
        first = first or token.text.lower()
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth < 0:
            raise _refusal("a bracket is closed that was not opened", where)
        if token.text == ";":
            raise _refusal("a semicolon is inside of brackets", where)
        end = token.end
    if depth:
        raise _refusal("a bracket is not closed", where)
    if first not in _READS:
        raise _refusal(f"it begins with {first or 'nothing'}", where, "begin with select or with")
    return query[:end].strip()


@lru_cache(maxsize=512)
def normalized(query: str) -> str:
    """The query as words, so that its layout and comments are no part of what it says."""
    return " ".join(token.text for token in _tokens(query, "query"))


def words(query: str) -> set[str]:
    """The query's unquoted words, in lower case."""
    return {token.text.lower() for token in _tokens(query, "query") if _WORD.fullmatch(token.text)}


def _tokens(query: str, where: str) -> Iterator[_Token]:
    place = 0
    while place < len(query):
        if space := _SPACE.match(query, place):
            place = space.end()
            continue
        after = _comment(query, place, where)
        if after is not None:
            place = after
            continue
        end = _quoted(query, place, where)
        if end is None:
            word = _WORD.match(query, place)
            end = word.end() if word else place + 1
            # E'…' and its like: a prefix of a text, which decides what a backslash is.
            if word and query[end : end + 1] == "'":
                is_escape = word.group().lower() == "e"
                end = _until(query, end, "'", where, backslash=is_escape)
                goes_on = _CONTINUED.match(query, end) if is_escape else None
                if goes_on is not None and _LINE_END.search(goes_on.group()):
                    raise _refusal("a text with escapes goes on in another line", where, "write it as one text")
        yield _Token(query[place:end], end)
        place = end


def _comment(query: str, place: int, where: str) -> int | None:
    """Where the comment ends that begins here; None if none does."""
    two = query[place : place + 2]
    if two == "--":
        line = _LINE_END.search(query, place)
        return len(query) if line is None else line.end()
    if two != "/*":
        return None
    depth, at = 1, place + 2
    while depth:
        begins, ends = query.find("/*", at), query.find("*/", at)
        if ends < 0:
            raise _refusal("a comment is not closed", where)
        nests = 0 <= begins < ends
        depth, at = (depth + 1, begins + 2) if nests else (depth - 1, ends + 2)
    return at


def _quoted(query: str, place: int, where: str) -> int | None:
    """Where the quoted text ends that begins here; None if none does."""
    if query[place] in "'\"":
        return _until(query, place, query[place], where)
    if tag := _DOLLAR.match(query, place):
        ends = query.find(tag.group(), tag.end())
        if ends < 0:
            raise _refusal("a text in dollars is not closed", where)
        return ends + len(tag.group())
    return None


def _until(query: str, place: int, sign: str, where: str, *, backslash: bool = False) -> int:
    """After the closing sign; twice the sign is one inside."""
    at = place + 1
    while at < len(query):
        if backslash and query[at] == "\\":
            at += 2
        elif query[at] != sign:
            at += 1
        elif query[at + 1 : at + 2] == sign:
            at += 2
        else:
            return at + 1
    raise _refusal("a quoted text is not closed", where)


def _refusal(
    what: str, where: str, fix: str = "try it with the source's own client, then correct it"
) -> DeclarationError:
    return DeclarationError(f"the declared query is not one statement that reads: {what}", where=where, fix=fix)
