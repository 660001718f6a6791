"""`medallion preview`: the last changes of the newest file, as a load would decode them."""

from __future__ import annotations

import json
from collections import deque

from flows.kinds.answers import Preview
from flows.kinds.debezium.declared import Debezium, EventTable
from flows.kinds.debezium.envelope import Event, Reader, Unread, line_of
from flows.kinds.debezium.fold import kinds_of
from flows.kinds.debezium.inbox import FileLines
from flows.kinds.files.left import FileProblem, Left, in_words
from flows.kinds.files.place import Place
from flows.values.errors import SourceError


def look(place: Place, source: Debezium, table: EventTable, count: int) -> Preview:
    """The last `count` events of the table in the newest file that matches. Writes nothing.

    Raises:
        SourceError: no file matches, the newest cannot be read, or has no event of the topic.
    """
    where, left = f"{source.name}.{table.name}", list[Left]()
    files = place.matching(table.pattern, left)
    if not files:
        raise SourceError(
            in_words(left) or f"no file matches {table.match}",
            where=where,
            fix="check match in the declaration, and the path in the connection URL",
        )
    newest, topics, unread, found = files[-1], set[str](), 0, deque[Event](maxlen=count)
    reader = Reader()
    try:
        for _, text in FileLines(place, newest, source.max_expansion, None).each():
            try:
                line = line_of(text)
                topics.add(line.topic)
                if line.topic == table.topic:
                    found.append(reader.event(line))
            except Unread:
                unread += 1
    except FileProblem as problem:
        raise SourceError(f"{newest.path}: {problem.reason}", where=where, fix="look at the file") from None
    if not found:
        raise SourceError(
            f"{newest.path} has no event of topic {table.topic}; it has {', '.join(sorted(topics)) or 'none of any'}",
            where=where,
            fix="correct topic in the declaration",
        )
    kinds, types = kinds_of(table, source, None), dict[str, str]()
    records = []
    for event in found:
        shown: dict[str, object] = {"op": event.op, "partition": event.partition, "offset": event.offset}
        try:
            values, kept = kinds.decode(event, types) if event.after is not None else ({}, set())
            shown |= {"row": values, "unchanged": sorted(kept)} if event.after is not None else {}
        except Unread as problem:
            shown |= {"refused": str(problem)}
        records.append(json.dumps(shown, ensure_ascii=False).encode())
    facts = [("file", table.match, newest.path), ("files", "", f"{len(files):,} match"), ("topic", table.topic, "")]
    if unread:
        facts.append(("unreadable", "", f"{unread:,} lines"))
    return Preview(records, types, facts)
