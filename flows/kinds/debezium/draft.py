"""`medallion add debezium`: a declaration drafted from a file of events: its topics and their keys."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from flows.kinds.debezium.envelope import Reader, Unread, line_of
from flows.kinds.debezium.inbox import FileLines
from flows.kinds.files.folder import LocalFolder
from flows.kinds.files.left import FileProblem
from flows.kinds.files.pattern import Pattern
from flows.values.errors import DeclarationError

_PLAIN_NAME = re.compile(r"[^a-z0-9]+")


@dataclass(slots=True)
class _Topic:
    """What a file says of a topic: the fields of its keys and rows, and whether its events have schemas."""

    keys: dict[str, None] = field(default_factory=dict)
    columns: dict[str, None] = field(default_factory=dict)
    bare: bool = False


def draft_events(name: str, path: str) -> str:
    """A declaration as Python, for a file of events, read in full.

    Raises:
        DeclarationError: there is no such file, or it has no change events.
    """
    file = Path(path).absolute()
    if not file.is_file():
        raise DeclarationError(f"{path} is no file", where=name, fix="name one of the files of events")
    try:
        topics, unread = _read(file)
    except FileProblem as problem:
        raise DeclarationError(
            f"nothing can be drafted from it: {problem.reason}", where=path, fix="wait until the file is complete"
        ) from None
    if not topics:
        raise DeclarationError(
            f"it has no change events ({unread:,} lines are something else)",
            where=path,
            fix="write events with topic, partition and offset, as `kcat -J` does: see docs/debezium.md",
        )
    return _written(name, file, topics, unread)


def _read(file: Path) -> tuple[dict[str, _Topic], int]:
    place, reader, topics, unread = LocalFolder(file.parent, None), Reader(), dict[str, _Topic](), 0
    (found,) = place.matching(Pattern(file.name), [])
    for _, text in FileLines(place, found, 200, None).each():
        try:
            line = line_of(text)
            event = reader.event(line)
        except Unread:
            unread += 1
            continue
        if event.op in ("t", "tombstone"):
            continue
        topic = topics.setdefault(line.topic, _Topic())
        topic.keys |= dict.fromkeys(event.key)
        topic.columns |= dict.fromkeys(event.after or event.before or {})
        topic.bare = topic.bare or event.fields is None
    return topics, unread


def _written(name: str, file: Path, topics: dict[str, _Topic], unread: int) -> str:
    ending = "".join(file.suffixes)
    lines = [
        f'"""Change events of {file.name}: look at topics, keys and the pattern of the files."""',
        "",
        "from flows.kinds.debezium import Debezium, EventTable, Settled",
        "",
        f"{name} = Debezium(",
        f'    "{name}",',
        f'    connection="{name}",  # MEDALLION_SOURCE_{name.upper()}_URL={file.parent}',
        '    ready=Settled("30 s"),',
        *(
            [f"    # {unread:,} lines of the file are no change events: they would be quarantined, or are of others"]
            * bool(unread)
        ),
        "    tables=[",
    ]
    for topic, said in topics.items():
        keys = ", ".join(f'"{key}"' for key in said.keys)
        table = _PLAIN_NAME.sub("_", topic.rpartition(".")[2].lower()).strip("_") or "events"
        lines += ["        EventTable(", f'            "{table}",', f'            topic="{topic}",']
        if said.keys:
            lines.append(f"            key={keys if len(said.keys) == 1 else f'({keys})'},")
        else:
            lines.append('            key="…",  # its events have no key: name the columns that tell rows apart')
        lines.append(f'            match="*{ending}",')
        if said.bare:
            lines += ["            # Events have no schema. Declare the type of each column, the key's at least:"]
            lines += [
                "            columns={",
                *(f'                # "{one}": "…",' for one in said.columns),
                "            },",
            ]
        lines.append("        ),")
    return "\n".join([*lines, "    ],", ")", ""])
