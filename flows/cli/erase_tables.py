"""Tables of `medallion erase` and `medallion purge`: places and counts, never values of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from flows.observe.look import grid, number

if TYPE_CHECKING:
    from flows.privacy.erase import Erasure
    from flows.purge import Line


def erasure_parts(subject: str, done: Erasure, *, planned: bool) -> list[Table | Text]:
    """A subject's rows per table: found, deleted and left. Never values of rows."""
    lines = done.found if planned else done.deleted
    table = grid(
        f"Rows of the {subject}", ["table", "to delete" if planned else "deleted"], numeric=["to delete", "deleted"]
    )
    for line in sorted(lines, key=lambda line: line.place.told):
        table.add_row(line.place.told, number(line.rows))
    parts: list[Table | Text] = [table if lines else Text("no table has a row with that key")]
    if planned:
        return [*parts, Text("nothing was deleted: add --erase to delete")]
    if done.remains:
        left = grid("Rows left", ["table", "column", "rows"], numeric=["rows"])
        for remains in done.remains:
            left.add_row(Text(remains.place), Text(remains.column), number(remains.rows))
        parts.append(left)
    if done.closed:
        parts.append(
            Text(f"not searched, because no role of the platform may read them: {', '.join(done.closed)}", "yellow")
        )
    if not done.remains and not done.closed:
        parts.append(Text("every column of every table was searched: nothing is left", "green"))
    parts.append(
        Text("backups and the server's log files contain the rows until their own retention period ends", "dim")
    )
    return parts


def retention_table(lines: Sequence[Line], *, deleted: bool) -> Table | Text:
    """Data past its retention period, found or deleted."""
    if not lines:
        return Text("nothing is past its retention period")
    count = "deleted" if deleted else "beyond"
    table = grid("Retention" if deleted else "Retention: plan; --delete applies it",
                 ["place", "kept for", "before", count, "of"], numeric=["kept for", count])  # fmt: skip
    for line in lines:
        moment = f"{line.older_than:%Y-%m-%d %H:%M}"
        table.add_row(line.place, f"{line.days:,} days", moment, number(line.count), line.what)
    return table
