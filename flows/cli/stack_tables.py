"""Tables of `medallion up` and `medallion status`: services, runs, tables, quarantine, errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from flows.cli.screens import noticed_loads
from flows.observe.look import ago, grid, number, styled
from flows.state.runs import DIED
from flows.values.row_limit import LIMITED

if TYPE_CHECKING:
    from flows.state.blockers import Blocker
    from flows.state.overview import Overview
    from infra.local.stack import ServiceStatus


def service_table(services: Iterable[ServiceStatus]) -> Table:
    """The embedded stack's services."""
    table = grid("Services", ["service", "state", "address", "pid", "log"], ["pid"])
    for service in services:
        table.add_row(
            service.name,
            styled(service.state),
            service.address or "",
            str(service.pid or ""),
            str(service.log or ""),
        )
    return table


def blockers_table(blockers: Iterable[Blocker]) -> Table:
    """Open transactions that lock tables of the warehouse."""
    table = grid("Open transactions", ["session", "role", "application", "since (UTC)", "state", "tables", "waiting"])
    for blocker in blockers:
        more = f" and {len(blocker.relations) - 3} more" if len(blocker.relations) > 3 else ""
        table.add_row(
            str(blocker.session),
            blocker.role,
            blocker.application,
            f"{blocker.since:%Y-%m-%d %H:%M:%S}" if blocker.since else "",
            blocker.state or "",
            ", ".join(blocker.relations[:3]) + more,
            ", ".join(map(str, blocker.waiting)),
        )
    return table


#: A watch that has said nothing for longer is dead, or cannot reach the warehouse.
WATCH_ALIVE_SECONDS = 120


def watch_words(overview: Overview) -> str:
    """Since when the watch was last alive; a warning if that is long ago, or if there is none."""
    if not overview.watches:
        return "[yellow]No watch has run here: no alerts are sent. Start `medallion watch` as a service.[/]"
    newest = overview.watches[0]
    words = f"The watch was last alive {ago(newest['seconds'])} ago on {newest['host']} ({newest['version']})"
    if newest["seconds"] > WATCH_ALIVE_SECONDS:
        return f"[yellow]{words}: no alerts are sent. Start `medallion watch`, and read its log.[/]"
    return f"[dim]{words}[/]"


def _freshness(row: Mapping[str, Any]) -> str:
    """The age of the last load, but for limited ones, which do not make a table fresh."""
    only_limited = row["freshness_seconds"] is None and row["reconciliation"] == LIMITED
    return LIMITED if only_limited else ago(row["freshness_seconds"])


def status_tables(overview: Overview) -> list[Table]:
    """`medallion status`: runs, tables with cursor and freshness, quarantine, schema changes, errors."""
    runs = grid("Last runs", ["run", "pipeline", "status", "started (UTC)", "took", "details"], ["run"])
    for run in overview.runs:
        name = f"{run['pipeline']} {run['scope']}".strip()
        runs.add_row(
            str(run["run_id"]),
            name,
            styled(run["status"]),
            f"{run['started_at']:%Y-%m-%d %H:%M:%S}",
            _took(run),
            _how_it_ended(run),
        )
    tables = grid(
        "Tables",
        ["table", "last load", "freshness", "cursor", "rows in raw", "reconciliation", "quarantined"],
        ["freshness", "rows in raw", "quarantined"],
    )
    for row in overview.tables:
        tables.add_row(
            f"{row['source_system']}.{row['table_name']}",
            styled(row["status"]),
            _freshness(row),
            row["cursor_value"] or "",
            number(row["raw_rows"]),
            styled(row["reconciliation"]),
            number(row["quarantined"], dim_zero=True),
        )
    shown = [runs, tables]
    if overview.followed:
        shown.append(_followed_table(overview))
    if noticed := noticed_loads(overview.tables):
        differences = grid("Differences found by the last loads", ["table", "what"])
        for name, what in noticed:
            differences.add_row(name, what)
        shown.append(differences)
    if overview.blockers:
        shown.append(blockers_table(overview.blockers))
    if overview.quarantine:
        quarantine = grid("Quarantine", ["table", "rule", "rows", "since (UTC)"], ["rows"])
        for row in overview.quarantine:
            quarantine.add_row(
                f"{row['source_system']}.{row['table_name']}",
                row["rule"],
                f"{row['rows']:,}",
                f"{row['since']:%Y-%m-%d %H:%M:%S}",
            )
        shown.append(quarantine)
    if overview.circuits:
        circuits = grid("Circuits", ["source", "state", "failures", "open until (UTC)", "reason"], ["failures"])
        for row in overview.circuits:
            until = row["retry_at"]
            circuits.add_row(
                row["source_system"],
                styled(row["state"]),
                str(row["failures"]),
                f"{until:%Y-%m-%d %H:%M:%S}" if until else "",
                row["what"] or "",
            )
        shown.append(circuits)
    if overview.changes:
        changes = grid("Schema changes", ["when (UTC)", "table", "column", "change", "type", "in raw"])
        for row in overview.changes:
            changes.add_row(
                f"{row['changed_at']:%Y-%m-%d %H:%M:%S}",
                f"{row['source_system']}.{row['table_name']}",
                row["column_name"],
                row["change"],
                " → ".join(kind for kind in (row["old_type"], row["new_type"]) if kind),
                styled("done" if row["applied"] else "not applied"),
            )
        shown.append(changes)
    if overview.errors:
        errors = grid("Errors", ["id", "when (UTC)", "times", "class", "where", "what", "fix"], ["times"])
        for row in overview.errors:
            errors.add_row(
                row["error_id"],
                f"{row['occurred_at']:%Y-%m-%d %H:%M:%S}",
                f"{row['times']:,}",
                row["failure_class"],
                row["location"] + (f" and {row['places'] - 1} more" if row["places"] > 1 else ""),
                row["what"],
                row["fix"],
            )
        shown.append(errors)
    return shown


def _followed_table(overview: Overview) -> Table:
    numbers = ["changes", "commits", "lag (MB)", "lag (s)", "as of"]
    table = grid("Followed sources", ["source", *numbers, "tables that do not follow"], numbers)
    for row in overview.followed:
        table.add_row(
            row["source_system"],
            number(row["changes"]),
            number(row["commits"]),
            f"{row['lag_bytes'] / 1e6:,.1f}",
            f"{row['lag_seconds']:,.1f}",
            f"{ago(row['seconds'])} ago",
            ", ".join(row["failing"]),
        )
    return table


def _took(run: Mapping[str, Any]) -> str:
    if run["status"] != "died" and run["ended"] != DIED:
        return ago(run["seconds"])
    # The time of death is unknown: the process lived at least until its last write.
    return "—" if run["seconds"] is None else f"at least {ago(run['seconds'])}"


def _how_it_ended(run: Mapping[str, Any]) -> str:
    if run["status"] != "died":
        return run["ended"] or ""
    return (
        f"its process died; last write at {run['last_sign']:%H:%M:%S}. Runs of deployments are restarted; "
        "the next run resumes from the last commit"
    )
