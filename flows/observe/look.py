"""How every screen looks: tables, panels, numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from rich.console import Console, RenderableType
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
    "equal": "green",
    "different": "bold red",
    "missing in raw": "bold red",
    "surplus in raw": "yellow",
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


# Into a file or a pipe there is no width to ask for; the widest table of ours fits this.
_WIDTH_WITHOUT_TERMINAL = 150


# Below this width, tables leave out what can be looked up.
_NARROW = 110


def open_console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, and wide enough for our tables where there is none."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=_WIDTH_WITHOUT_TERMINAL)


class _Grid(Table):
    """A table whose cells are text: a column called `[bold]` or by an escape sequence is shown as it is called."""

    def add_row(self, *cells: RenderableType | None, style: StyleType | None = None, end_section: bool = False) -> None:
        """As its base, with nothing in a text that would be obeyed."""
        shown = [Text(visible(cell, lines=True)) if isinstance(cell, str) else cell for cell in cells]
        super().add_row(*shown, style=style, end_section=end_section)


def grid(title: str, columns: Sequence[str], numeric: Iterable[str] = ()) -> Table:
    """An empty table in the house's look; numeric columns are read by their right edge."""
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
    return f"{timedelta(seconds=seconds).days} days"


def error_panel(error: MedallionError) -> Panel:
    """An error as a person reads it: what, where, the next move, whether a retry can help."""
    text = Text()
    text.append(f"{error.what}\n", style="bold")
    for label, value in (
        ("where", error.where),
        ("next", error.fix),
        ("retry", "can help" if error.retryable else "cannot help"),
    ):
        text.append(f"{label:>6}  ", style="dim")
        text.append(f"{value}\n")
    error_id = getattr(error, "error_id", None)
    if error_id:
        text.append(f"{'id':>6}  ", style="dim")
        text.append(f"{error_id} in ops.errors\n")
    text.rstrip()
    return Panel(text, title=type(error).__name__, title_align="left", border_style="red", expand=False)


def number(value: int | None, *, dim_zero: bool = False) -> Text:
    """A count with its thousands apart; a zero that is of no interest is dim."""
    return Text("" if value is None else f"{value:,}", style="dim" if dim_zero and not value else "")
