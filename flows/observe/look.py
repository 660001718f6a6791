"""The look of every screen: tables, panels, numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.panel import Panel
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

from flows.values.errors import MedallionError
from flows.values.visible import visible

_STATUS_STYLE = {
    "done": "green",
    "published": "green",
    "running": "yellow",
    "match": "green",
    "different": "bold red",
    "missing": "bold red",
    "extra": "yellow",
    "duplicate": "bold red",
    "failed": "bold red",
    "died": "bold red",
    "refused": "bold magenta",
    "rescheduled": "yellow",
    "open": "bold red",
    "half-open": "yellow",
    "closed": "green",
    "not applied": "bold magenta",
    "starting": "yellow",
    "stopped": "dim",
}


# A file or a pipe has no width; our widest table fits this.
_WIDTH_WITHOUT_TERMINAL = 150


# Below this width, tables omit what can be looked up elsewhere: else the names of tables would be broken into lines.
_NARROW = 145


def open_console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or wide enough for our tables if there is none."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=_WIDTH_WITHOUT_TERMINAL)


# Prose may be wrapped down to this width before a table is shown as records.
_PROSE = 16


class _Grid(Table):
    """A table whose cells are plain text: a column named `[bold]` or with an escape sequence is shown literally.

    Where the terminal is too narrow for whole names and numbers, each row becomes a record: a line a value, as psql
    shows them with `\\x auto`. What is empty, or a zero that nobody looks for, is left out of records.
    """

    def add_row(self, *cells: RenderableType | None, style: StyleType | None = None, end_section: bool = False) -> None:
        """Like the base class, with markup and control characters of texts escaped."""
        shown = [Text(visible(cell, lines=True)) if isinstance(cell, str) else cell for cell in cells]
        super().add_row(*shown, style=style, end_section=end_section)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = [(str(column.header), list(column.cells)) for column in self.columns]
        least = [max(_needed(cell) for cell in (header, *cells)) for header, cells in columns]
        spare = options.max_width - sum(least) - 3 * len(columns) - 1
        if spare >= 0 or len(columns) < 3 or not self.row_count:
            # Else Rich takes from the widest columns first, which are names.
            for column, (header, cells), width in zip(self.columns, columns, least, strict=True):
                more = min(max(_lines(cell) for cell in (header, *cells)) - width, max(spare, 0))
                column.width = None if spare < 0 else width + more
                spare -= more if spare >= 0 else 0
            yield from super().__rich_console__(console, options)
            return
        if self.title:
            yield Text(str(self.title), style="bold")
        (_, names), *others = columns
        for row, name in enumerate(names):
            yield Text.assemble(name if isinstance(name, Text) else str(name), style="bold")
            record = Table.grid(padding=(0, 2))
            record.add_column(style="dim", overflow="fold")
            record.add_column(overflow="fold")
            for header, cells in others:
                if not _says_nothing(cells[row]):
                    record.add_row(header, cells[row])
            yield Padding(record, (0, 0, 0, 2))
        if self.caption:
            yield self.caption


def _needed(cell: RenderableType) -> int:
    """The columns of a screen that a cell needs so that no name or number of it is broken."""
    longest = max((cell_len(word) for word in _text(cell).split()), default=0)
    return max(longest, min(_PROSE, _lines(cell)))


def _lines(cell: RenderableType) -> int:
    """The columns of a screen that a cell needs so that none of its lines is broken."""
    return max((cell_len(line) for line in _text(cell).splitlines()), default=0)


def _text(cell: RenderableType) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)


def _says_nothing(cell: RenderableType) -> bool:
    return isinstance(cell, Text) and (not cell.plain or (cell.plain, cell.style) == ("0", "dim"))


def grid(title: str, columns: Sequence[str], numeric: Iterable[str] = ()) -> Table:
    """An empty table in the common style; numeric columns are right-aligned."""
    table = _Grid(title=title, title_justify="left", title_style="bold", header_style="dim", border_style="dim")
    right = set(numeric)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def styled(status: str | None) -> Text:
    """A status in its colour."""
    return Text(status or "", style=_STATUS_STYLE.get(status or "", ""))


def ago(seconds: float | None) -> str:
    """`12 s`, `4 min`, `2:05 h`, `3 days`."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 86400:
        return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"
    days = timedelta(seconds=seconds).days
    return f"{days} day" if days == 1 else f"{days} days"


def error_panel(error: MedallionError) -> Panel:
    """An error panel: what, where, fix, and whether it is retryable."""
    text = Text()
    text.append(f"{error.what}\n", style="bold")
    for label, value in (
        ("where", error.where),
        ("fix", error.fix),
        ("retryable", "yes" if error.retryable else "no"),
    ):
        text.append(f"{label:>9}  ", style="dim")
        text.append(f"{value}\n")
    error_id = getattr(error, "error_id", None)
    if error_id:
        text.append(f"{'id':>9}  ", style="dim")
        text.append(f"{error_id} in ops.errors\n")
    text.rstrip()
    return Panel(text, title=type(error).__name__, title_align="left", border_style="red", expand=False)


def number(value: int | None, *, dim_zero: bool = False) -> Text:
    """A count with thousands separators; zero is dim on request."""
    return Text("" if value is None else f"{value:,}", style="dim" if dim_zero and not value else "")
