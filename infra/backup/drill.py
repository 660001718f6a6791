"""Restore drills measure RPO and RTO.

The newest backup and the WAL are recovered into a scratch cluster, without contact to the live one. It is checked,
catches up with the sources, and is compared with them; RTO is measured from the first to the last of these steps. Then
every page and index is checked, and the scratch cluster is deleted. The result is stored with the backups.

RPO  time between the end of the archived WAL and the start of the drill: later commits would be lost
RTO  seconds until the warehouse has passed its checks and is up to date with its sources
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.values.settings import settings
from flows.verbs.catch_up import CaughtUp, catch_up
from infra.backup import checks
from infra.backup.archive import PAGE_HEADER
from infra.backup.aside import aside
from infra.backup.catalog import Catalog, new_label
from infra.backup.checks import Check
from infra.backup.errors import TargetMissed
from infra.backup.key import Keys
from infra.backup.lsn import parse_lsn
from infra.backup.recover import Recovered, Recovery, recovered
from infra.local.account import account_for

Step = Callable[[str], None]


@dataclass(frozen=True)
class Drill:
    """What a drill measured and saw. Seconds; `took` names the parts of `rto_seconds`."""

    began_at: datetime
    backup: str
    rpo_seconds: float
    rto_seconds: float
    rpo_target: float
    rto_target: float
    took: Mapping[str, float]
    segments: int
    cluster_bytes: int
    last_commit: datetime | None
    checks: list[Check]
    tables: list[CaughtUp]

    @property
    def problems(self) -> list[str]:
        """What is not as it should be, in words; empty when the drill was passed."""
        found = []
        if self.rpo_seconds > self.rpo_target:
            found.append(f"{self.rpo_seconds:.0f} s would be lost, target {self.rpo_target:g} s")
        if self.rto_seconds > self.rto_target:
            found.append(f"recovery took {self.rto_seconds:.0f} s, target {self.rto_target:g} s")
        found += [f"{check.name}: {check.found}" for check in self.checks if not check.good]
        found += [
            f"{line.table}: {line.error.what if line.error else f'{line.differences} differences'}"
            for line in self.tables
            if not line.agrees
        ]
        return found

    @property
    def parts(self) -> list[tuple[str, str, float]]:
        """What the time went into: the part, what was done in words, seconds."""
        words = {
            "log": f"fetched and checked {self.segments} WAL segments",
            "copy": f"copied back {self.cluster_bytes / 1024**2:,.0f} MB",
            "verify": "verified against the manifest",
            "replay": "replayed and promoted",
            "checks": "checked the cluster",
            "catch up": f"caught up {len(self.tables)} tables with their sources",
        }
        return [(part, words[part], seconds) for part, seconds in self.took.items()]

    def facts(self) -> dict[str, Any]:
        """As plain values, to be kept."""
        tables = [asdict(line) | {"error": line.error.what if line.error else None} for line in self.tables]
        return asdict(self) | {"tables": tables, "problems": self.problems, "met": not self.problems}


def drill(
    catalog: Catalog,
    keys: Keys,
    *,
    sources: Mapping[str, list[str] | None] | None,
    within: Path,
    on_step: Step = lambda _: None,
    on_table: Callable[[CaughtUp], None] = lambda _: None,
) -> Drill:
    """Recover into a folder in `within`, catch up with `sources` (None: do not), measure, and keep what was found.

    Raises:
        MedallionError: there is nothing to recover from, or it cannot be recovered.
    """
    began_at, clock = datetime.now(UTC), time.monotonic()
    within.mkdir(parents=True, exist_ok=True)
    account = account_for(within)
    with aside(within, account) as folder:
        with recovered(Recovery(catalog, keys), folder, account=account, on_step=on_step) as found:
            took = dict(found.took)
            seen = checks.check(found.cluster)
            took["checks"] = time.monotonic() - clock - sum(took.values())
            on_step(f"checked: {'; '.join(f'{check.name}: {check.found}' for check in seen)}")
            tables = list[CaughtUp]()
            if sources is not None:
                tables = asyncio.run(catch_up(checks.warehouse_of(found.cluster), sources, on_table))
                took["catch up"] = time.monotonic() - clock - sum(took.values())
            rto = time.monotonic() - clock
            seen.append(checks.check_structure(found.cluster))
            found.cluster.stop()
            seen.append(checks.check_pages(found.cluster))
        done = Drill(
            began_at=began_at,
            backup=found.backup.label,
            rpo_seconds=_lost(found, began_at),
            rto_seconds=rto,
            rpo_target=settings().backup_rpo_seconds,
            rto_target=settings().backup_rto_seconds,
            took=took,
            segments=found.segments,
            cluster_bytes=found.backup.cluster_bytes,
            last_commit=found.last_commit,
            checks=seen,
            tables=tables,
        )
    catalog.record_drill(new_label(began_at), done.facts())
    return done


def refuse_missed(done: Drill) -> None:
    """Raise TargetMissed where the drill was not passed."""
    if done.problems:
        raise TargetMissed(
            f"the drill failed: {'; '.join(done.problems)}",
            where=f"backup {done.backup}",
            fix="RPO: check that the archiver runs (`medallion status`), and often enough. "
            "RTO: back up more often, so that less WAL is replayed. Targets are MEDALLION_BACKUP_RPO_SECONDS "
            "and MEDALLION_BACKUP_RTO_SECONDS",
        )


def _lost(found: Recovered, began_at: datetime) -> float:
    """Seconds of commits that would be lost. The archive's word counts only when recovery came as far as it says."""
    mark = found.watermark
    if mark is not None and parse_lsn(found.lsn) + PAGE_HEADER >= mark.position:
        return max(0.0, (began_at - mark.at).total_seconds())
    return (began_at - (found.last_commit or found.backup.ended_at)).total_seconds()
