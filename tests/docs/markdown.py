"""The documents of this repository, taken apart: links, headings, code blocks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[(?:[^\]\[]|\\[\]\[])*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (?P<text>.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of code: where it stands, its language, its text."""

    document: str
    language: str
    code: str


def name_of(document: Path) -> str:
    """`docs/ingest.md`, for the names of tests."""
    return document.relative_to(ROOT).as_posix()


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def prose_of(document: Path) -> str:
    """The text without its blocks of code."""
    return _FENCE.sub("", text_of(document))


def links_of(document: Path) -> Iterator[str]:
    """Targets of links and images that point into the repository."""
    for found in _LINK.finditer(prose_of(document)):
        if "://" not in found["target"]:
            yield found["target"]


def anchors_of(document: Path) -> set[str]:
    """What `#…` may name in a document: its headings as code hosts make anchors of them."""
    return {
        re.sub(r"[^\w\- ]", "", found["text"].lower()).strip().replace(" ", "-")
        for found in _HEADING.finditer(prose_of(document))
    }


def blocks(language: str) -> list[Block]:
    """Every block of that language in every document."""
    return [
        Block(name_of(document), language, found["code"])
        for document in DOCUMENTS
        for found in _FENCE.finditer(text_of(document))
        if found["language"] == language
    ]


def rows_of(document: Path) -> list[list[str]]:
    """The rows of every table in a document, cells stripped."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text_of(document).splitlines()
        if line.startswith("|") and not set(line) <= set("|-: ")
    ]
