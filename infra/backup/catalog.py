"""The catalog of one cluster's backups, and the names of its objects.

clusters/<system identifier>.json      when the cluster was backed up last
<system identifier>/
├── base/<label>/backup.json            written last: what has none is no backup, or not yet one
│   ├── base.tar.zst.age                the whole cluster, with PostgreSQL's manifest of it
│   └── stack.tar.zst.age               of the embedded stack: the passwords, and prefect.db if there is one
├── wal/<segment>.zst.age               the write-ahead log; `.partial` while it still grows
├── wal.json                            until when, and up to where, the log is here
└── drills/<label>.json                 what drills found
"""

import json
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from infra.backup.errors import NoBackup
from infra.backup.kept import Kept, Store, get, put
from infra.backup.lsn import parse_lsn

SUFFIX = ".zst.age"


@dataclass(frozen=True)
class Backup:
    """A base backup. Times are the server's, in UTC; LSNs as PostgreSQL writes them; sizes in bytes.

    Recovery may end at `ended_at` at the earliest: before it, the copied files fit no single moment.
    """

    label: str
    system: str
    server: str
    timeline: int
    start_lsn: str
    end_lsn: str
    began_at: datetime
    ended_at: datetime
    key: str
    cluster_bytes: int
    kept_bytes: int
    sha256: str
    segment_bytes: int
    superuser: str
    seconds: float
    stack: bool = False
    verified_at: datetime | None = None

    @property
    def start(self) -> int:
        return parse_lsn(self.start_lsn)

    @property
    def end(self) -> int:
        return parse_lsn(self.end_lsn)


@dataclass(frozen=True)
class Watermark:
    """All that was committed until `at` lies at or before `lsn`, and the log is in the archive up to there."""

    timeline: int
    lsn: str
    at: datetime

    @property
    def position(self) -> int:
        return parse_lsn(self.lsn)


@dataclass(frozen=True)
class Catalog:
    """The names of one cluster's objects, and the small ones' content."""

    store: Store = field(repr=False)
    system: str

    def base(self, label: str) -> str:
        return f"{self.system}/base/{label}/base.tar{SUFFIX}"

    def stack(self, label: str) -> str:
        return f"{self.system}/base/{label}/stack.tar{SUFFIX}"

    def wal(self, name: str = "") -> str:
        return f"{self.system}/wal/{name}{SUFFIX if name else ''}"

    def backups(self) -> list[Backup]:
        """Every finished backup, oldest first."""
        names = [kept.name for kept in self.store.list(f"{self.system}/base/") if kept.name.endswith("/backup.json")]
        return sorted((self._read_backup(name) for name in names), key=lambda backup: backup.start)

    def save(self, backup: Backup) -> None:
        """Make a backup one that counts, or change what is known of it."""
        put(self.store, f"clusters/{self.system}.json", _dump({"backed_up_at": backup.ended_at}))
        put(self.store, f"{self.system}/base/{backup.label}/backup.json", _dump(asdict(backup)))

    def forget(self, label: str) -> None:
        """Delete a backup: first what makes it one, so that nobody recovers from half of it."""
        self.store.delete(f"{self.system}/base/{label}/backup.json")
        for kept in self.store.list(f"{self.system}/base/{label}/"):
            self.store.delete(kept.name)

    def unfinished(self) -> list[str]:
        """Labels of what was begun and has not become a backup."""
        labels = {kept.name.split("/")[2] for kept in self.store.list(f"{self.system}/base/")}
        return sorted(labels - {backup.label for backup in self.backups()})

    def segments(self) -> dict[str, Kept]:
        """The objects of the write-ahead log, by the names that PostgreSQL knows them by."""
        begin = len(self.wal())
        return {kept.name[begin:].removesuffix(SUFFIX): kept for kept in self.store.list(self.wal())}

    def watermark(self) -> Watermark | None:
        """How far the archive reaches; None before anything was archived."""
        try:
            found = json.loads(get(self.store, f"{self.system}/wal.json"))
        except FileNotFoundError:
            return None
        return Watermark(int(found["timeline"]), str(found["lsn"]), datetime.fromisoformat(found["at"]))

    def mark(self, watermark: Watermark) -> None:
        put(self.store, f"{self.system}/wal.json", _dump(asdict(watermark)))

    def record_drill(self, label: str, found: dict[str, Any]) -> None:
        """Keep what a drill found, where it outlives the warehouse."""
        put(self.store, f"{self.system}/drills/{label}.json", _dump(found))

    def drills(self) -> list[dict[str, Any]]:
        """What drills found, oldest first."""
        return [json.loads(get(self.store, kept.name)) for kept in self.store.list(f"{self.system}/drills/")]

    def _read_backup(self, name: str) -> Backup:
        found = json.loads(get(self.store, name))
        known = {each.name for each in fields(Backup)}
        values = {name: value for name, value in found.items() if name in known}
        for moment in ("began_at", "ended_at", "verified_at"):
            values[moment] = datetime.fromisoformat(values[moment]) if values.get(moment) else None
        return Backup(**values)


def open_catalog(store: Store, system: str | None = None) -> Catalog:
    """The catalog of a cluster by its system identifier; by default of the one backed up last.

    Raises NoBackup where nothing is kept.
    """
    if system is not None:
        return Catalog(store, system)
    found = [
        (json.loads(get(store, kept.name))["backed_up_at"], kept.name.removeprefix("clusters/").removesuffix(".json"))
        for kept in store.list("clusters/")
    ]
    if not found:
        raise NoBackup(
            "there is no backup here",
            where=store.place,
            fix="`medallion backup` makes one; MEDALLION_BACKUP_TO is the place of backups",
        )
    return Catalog(store, max(found)[1])


def new_label(now: datetime | None = None) -> str:
    """A backup's name: the moment it was begun, in UTC."""
    return (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")


def _dump(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, default=_plain) + "\n").encode()


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)
