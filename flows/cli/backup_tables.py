"""Tables of backups, recoveries and drills."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from flows.observe.look import ago, grid, styled

if TYPE_CHECKING:
    from flows.verbs.catch_up import CaughtUp
    from infra.backup.archive import Stretch
    from infra.backup.catalog import Backup, Watermark
    from infra.backup.drill import Drill
    from infra.backup.restore import Restored
    from infra.backup.retention import Expiry


def backups_table(
    backups: Iterable[Backup], mark: Watermark | None, reached: Mapping[str, Stretch] | None = None
) -> Table:
    """When it was made, its size, the moments its WAL reaches, whether it was verified, and its key."""
    columns = [
        "backup",
        "MB",
        "sealed MB",
        "WAL from",
        "recoverable from (UTC)",
        "until (UTC)",
        "verified (UTC)",
        "key",
    ]
    table = grid("Backups", columns, ["MB", "sealed MB"])
    for backup in backups:
        stretch = (reached or {}).get(backup.label)
        until = _moment(mark.at) if mark is not None else ""
        if stretch is not None and stretch.missing:
            until = f"a gap in the WAL at {_lsn(stretch.whole_until)}"
        table.add_row(
            f"{backup.label}{' with the stack' if backup.stack else ''}",
            f"{backup.cluster_bytes / 1024**2:,.0f}",
            f"{backup.kept_bytes / 1024**2:,.0f}",
            f"{backup.timeline}: {backup.start_lsn}",
            _moment(backup.ended_at),
            Text(until, style="bold red" if stretch is not None and stretch.missing else ""),
            Text(_moment(backup.verified_at) or "no", style="" if backup.verified_at else "bold red"),
            f"{backup.key[:14]}…",
        )
    return table


def drills_table(drills: Sequence[Mapping[str, Any]]) -> Table:
    """The results of the last drills."""
    table = grid("Drills", ["began (UTC)", "backup", "RPO", "RTO", "result"], ["RPO", "RTO"])
    for found in drills:
        table.add_row(
            _moment(datetime.fromisoformat(found["began_at"])),
            found["backup"],
            f"{found['rpo_seconds']:.0f} s",
            f"{found['rto_seconds']:.0f} s",
            Text("met", style="green") if found["met"] else Text("; ".join(found["problems"]), style="bold red"),
        )
    return table


def tables_table(lines: Iterable[CaughtUp]) -> Table:
    """What each table needed to catch up with its source."""
    table = grid(
        "Caught up with the sources",
        ["table", "rows read", "rows changed", "result", "s"],
        ["rows read", "rows changed", "s"],
    )
    for line in sorted(lines, key=lambda line: line.table):
        table.add_row(
            line.table,
            f"{line.rows_read:,}",
            f"{line.rows_changed:,}",
            styled(line.result) if line.error is None else Text(line.error.what, style="bold red"),
            f"{line.seconds:.1f}",
        )
    return table


def drill_table(done: Drill) -> Table:
    """The steps of a drill, and the results of its checks."""
    table = grid(f"Drill of backup {done.backup}", ["what", "found", "s"], ["s"])
    for part, found, seconds in done.parts:
        table.add_row(part, found, f"{seconds:.1f}")
    table.add_section()
    for check in done.checks:
        table.add_row(check.name, Text(check.found, style="" if check.good else "bold red"), "")
    return table


def verdict(done: Drill) -> Text:
    """The drill in one line."""
    text = (
        f"RPO {done.rpo_seconds:.1f} s, RTO {done.rto_seconds:.1f} s; targets {ago(done.rpo_target)} and "
        f"{ago(done.rto_target)}: "
    )
    return Text.assemble(text, ("missed", "bold red") if done.problems else ("met", "bold green"))


def restored_table(done: Restored) -> Table:
    """The result of a recovery."""
    table = grid("Recovered", ["what", "found"])
    table.add_row("to", done.target)
    table.add_row("from backup", done.backup)
    table.add_row("last commit (UTC)", _moment(done.last_commit) or "none after the backup")
    table.add_row("cluster", str(done.data))
    if done.aside is not None:
        table.add_row("previous cluster", str(done.aside))
    for check in done.checks:
        table.add_row(check.name, check.found)
    table.add_row("took", f"{done.seconds:.1f} s")
    return table


def expiry_words(expiry: Expiry) -> Text:
    """The backups that would be deleted and kept, shown before the deletion."""
    gone = ", ".join(backup.label for backup in expiry.expired) or "no backup"
    size = sum(backup.kept_bytes for backup in expiry.expired) + expiry.log_bytes
    return Text(
        f"to delete: {gone}, and {len(expiry.log)} WAL segments before {expiry.kept[0].label if expiry.kept else 'now'}"
        f"; {size / 1024**2:,.0f} MB. To keep: {', '.join(backup.label for backup in expiry.kept)}"
    )


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment is not None else ""


def _lsn(position: int) -> str:
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"
