"""What the terminal shows of backups, recoveries and drills."""

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
    """When, how large, from where to where the log leads, whether it was verified, and the key that opens it."""
    columns = [
        "backup",
        "MB",
        "sealed MB",
        "log from",
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
            until = f"a gap in the log at {_lsn(stretch.whole_until)}"
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
    """What the last drills found."""
    table = grid("Drills", ["began (UTC)", "backup", "RPO", "RTO", "verdict"], ["RPO", "RTO"])
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
    """What each table took to be as its source is."""
    table = grid(
        "Caught up with the sources",
        ["table", "read again", "changed", "both ends", "s"],
        ["read again", "changed", "s"],
    )
    for line in sorted(lines, key=lambda line: line.table):
        table.add_row(
            line.table,
            f"{line.rows_read:,}",
            f"{line.rows_changed:,}",
            styled(line.verdict) if line.error is None else Text(line.error.what, style="bold red"),
            f"{line.seconds:.1f}",
        )
    return table


def drill_table(done: Drill) -> Table:
    """The parts of a drill, and what its checks answered."""
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
    """What a recovery led to."""
    table = grid("Recovered", ["what", "found"])
    table.add_row("to", done.target)
    table.add_row("from backup", done.backup)
    table.add_row("last commit (UTC)", _moment(done.last_commit) or "before the backup ended")
    table.add_row("cluster", str(done.data))
    if done.aside is not None:
        table.add_row("what was there", str(done.aside))
    for check in done.checks:
        table.add_row(check.name, check.found)
    table.add_row("took", f"{done.seconds:.1f} s")
    return table


def expiry_words(expiry: Expiry) -> Text:
    """What goes and what stays, before it goes."""
    gone = ", ".join(backup.label for backup in expiry.expired) or "no backup"
    size = sum(backup.kept_bytes for backup in expiry.expired) + expiry.log_bytes
    return Text(
        f"to go: {gone}, and {len(expiry.log)} segments of log before {expiry.kept[0].label if expiry.kept else 'now'}"
        f"; {size / 1024**2:,.0f} MB. To stay: {', '.join(backup.label for backup in expiry.kept)}"
    )


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment is not None else ""


def _lsn(position: int) -> str:
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"
