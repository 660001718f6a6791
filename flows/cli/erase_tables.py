"""Tables of `medallion erase` and `medallion purge`: places and counts, never values of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from flows.observe.look import grid, number

if TYPE_CHECKING:
    from flows.privacy.draft import Drafted
    from flows.privacy.erase import Erasure
    from flows.privacy.search import Remains
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
    if done.left:
        title = "Not deleted by --erase: change these rows, or declare the paths" if planned else "Rows left"
        parts.append(_remains(title, done.left))
    if done.shared:
        parts.append(_remains("Rows of others with a value of this one: decide about them", done.shared))
    if planned:
        return [*parts, Text("nothing was deleted: add --erase to delete")]
    if done.closed:
        parts.append(
            Text(f"not searched, because no role of the platform may read them: {', '.join(done.closed)}", "yellow")
        )
    if done.busy:
        parts.append(
            Text(
                f"{done.busy} transactions of others were open all the time, and may write what they had read: run the "
                "command again when they have ended",
                "yellow",
            )
        )
    if done.proven:
        parts.append(Text("every column of every table was searched: nothing is left", "green"))
    if not done.kept:
        parts.append(Text("the home cannot be written, so a restore will not find whom to erase again", "yellow"))
    parts.append(
        Text("backups and the server's log files contain the rows until their own retention period ends", "dim")
    )
    return parts


def _remains(title: str, lines: Sequence[Remains]) -> Table:
    table = grid(title, ["table", "column", "field", "rows"], numeric=["rows"])
    for line in lines:
        table.add_row(Text(line.place), Text(line.column), Text(line.path), number(line.rows))
    return table


def path_parts(subject: str, drafted: Sequence[Drafted]) -> list[Table | Text]:
    """Drafted paths, as a declaration. Counts of values, never values."""
    if not drafted:
        return [Text(f"no undeclared field of the records in raw looks like the key of a {subject}", "green")]
    table = grid("May be the key", ["table", "path", "values", "keys of it"], numeric=["values", "keys of it"])
    for line in drafted:
        table.add_row(Text(line.path.table), Text(line.path.path), number(line.values), number(line.keys))
    lines = [f'    KeyPath("{line.path.table}", "{line.path.path}"),' for line in drafted]
    return [table, Text("\n".join(["add to flows/sources/subjects.py:", "paths=(", *lines, "),"]))]


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
