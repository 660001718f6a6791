"""The source of dlt that is held to the promises: the records of a file, read with a key that must not be told."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt


def _records(url: str) -> list[dict[str, Any]]:
    held: list[dict[str, Any]] = json.loads(Path(url).read_text(encoding="utf-8"))
    return held


def conforming(url: str, key: str) -> Any:
    """What the file holds."""

    @dlt.resource(name="items", primary_key="id", write_disposition="replace")
    def items() -> Iterator[Any]:
        if not Path(url).exists():
            raise PermissionError(f"{key} is refused at {url}")
        yield from _records(url)

    return items


def count(url: str, key: str) -> int:
    """How many there are."""
    return len(_records(url))
