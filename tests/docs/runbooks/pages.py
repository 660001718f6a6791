"""The pages of docs/runbooks, taken apart: steps, and the commands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.docs.markdown import ROOT, text_of

FOLDER = ROOT / "docs/runbooks"
_STEP = re.compile(r"^(\d+)\. ", re.MULTILINE)
_BLOCK = re.compile(r"^   ```(\w+)\n(.*?)^   ```$", re.MULTILINE | re.DOTALL)
_PLACEHOLDER = re.compile(r"(?<![\w-])(?!MEDALLION_|PREFECT_)[A-Z]{2,}(?:_[A-Z]+)*(?!\w)")


@dataclass(frozen=True)
class Block:
    """Commands of a step, as the page has them. `language` is console or sql."""

    language: str
    code: str

    def filled(self, values: Mapping[str, str]) -> str:
        """With values in place of words in capital letters.

        Raises KeyError if one has no value.
        """
        return _PLACEHOLDER.sub(lambda found: values[found[0]], self.code)


@dataclass(frozen=True)
class Step:
    """A numbered step. One without blocks is what a person does elsewhere, or thinks about."""

    number: int
    text: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """A runbook, by the name of its alert or class."""

    name: str
    intro: str
    steps: tuple[Step, ...]
    end: str

    @property
    def commands(self) -> Iterator[str]:
        """The lines of its console blocks, and what it names in backticks."""
        for step in self.steps:
            for block in step.blocks:
                if block.language == "console":
                    yield from block.code.splitlines()
        for text in (self.intro, self.end, *(step.text for step in self.steps)):
            yield from re.findall(r"`((?:medallion|prefect) [^`]+)`", " ".join(text.split()))


def slug(name: str) -> str:
    """`load failed` → `load-failed`."""
    return name.lower().replace(" ", "-")


def page(name: str) -> Page:
    """The page of an alert or class."""
    return _parsed(FOLDER / f"{slug(name)}.md")


def pages() -> list[Page]:
    """All pages; README.md is their index."""
    return [_parsed(path) for path in sorted(FOLDER.glob("*.md")) if path.name != "README.md"]


def _parsed(path: Path) -> Page:
    head, *rest = _STEP.split(text_of(path))
    title, _, intro = head.removeprefix("# ").partition("\n")
    numbers, bodies = [int(number) for number in rest[::2]], rest[1::2]
    last, _, end = bodies[-1].partition("**Resolved**")
    texts = [*bodies[:-1], last]
    assert numbers == [*range(1, len(numbers) + 1)], path
    steps = [
        Step(
            number,
            _BLOCK.sub("", text).strip(),
            tuple(
                Block(language, re.sub(r"^   ", "", code, flags=re.MULTILINE))
                for language, code in _BLOCK.findall(text)
            ),
        )
        for number, text in zip(numbers, texts, strict=True)
    ]
    return Page(title, intro.strip(), tuple(steps), end.strip())
