"""The cluster to back up: its facts, and the checks that it can be backed up."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import ConnStatus, ExecStatus, PGconn

from flows.access.addresses import embedded_stack, embedded_url
from flows.values.connection import DatabaseConnection
from flows.values.errors import ConfigurationError
from flows.values.settings import settings
from infra.backup import programs
from infra.backup.catalog import Watermark
from infra.backup.errors import ServerRefused

#: What keeps the server from throwing the log away before we have it.
SLOT = "medallion_backup"

_GRANTS = (
    "run infra/local/roles_backup.sql as a superuser, and allow `replication` connections of the role in pg_hba.conf"
)
_MANAGED = (
    "managed servers (Amazon RDS, Cloud SQL) do not allow copying files: use the provider's snapshots and "
    "point-in-time recovery, docs/disaster-recovery.md; on a self-managed server, "
)


@dataclass(frozen=True)
class Server:
    """What the cluster says of itself. `version` such as 18.6; `segment_bytes` of its write-ahead log."""

    system: str
    version: str
    segment_bytes: int
    superuser: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


def address() -> DatabaseConnection:
    """The cluster's address for backups. Raises ConfigurationError."""
    configured = settings().backup_url
    if configured is not None:
        return DatabaseConnection("backup", configured.get_secret_value())
    stack = embedded_stack()
    if stack is not None and "postgres_backup" in stack["urls"]:
        return DatabaseConnection("backup", embedded_url(stack, "postgres_backup"))
    raise ConfigurationError(
        "the connection URL of the cluster to back up is not configured",
        where="backup",
        fix="run `medallion up` for the embedded cluster, or set MEDALLION_BACKUP_URL, with a replication "
        "role:  postgresql://medallion_backup:…@host/postgres?sslmode=verify-full",
    )


def identify(at: DatabaseConnection) -> Server:
    """What the cluster is, after making sure that we may back it up.

    Raises:
        ServerRefused: it does not answer, the role may not replicate, or our programs are of another major version.
    """
    system = _identify_system(at)
    with connect(at) as session:
        row = session.execute(
            "select current_setting('server_version'), pg_size_bytes(current_setting('wal_segment_size')), "
            "(select rolname from pg_roles where oid = 10), "
            "(select count(*) from pg_tablespace where spcname not in ('pg_default', 'pg_global')), "
            "pg_is_in_recovery(), pg_has_role(current_user, 'pg_read_all_stats', 'usage')"
        ).fetchone()
    assert row is not None
    server = Server(system, row[0].split()[0], int(row[1]), row[2])
    if row[3]:
        raise ServerRefused(
            "the cluster has additional tablespaces, which are not supported",
            where=at.safe_address,
            fix="move their tables to pg_default, or back this cluster up with pgBackRest or barman",
        )
    if row[4]:
        raise ServerRefused(
            "this is a standby, which does not know up to when it has received everything",
            where=at.safe_address,
            fix="name the primary in MEDALLION_BACKUP_URL; ?target_session_attrs=primary finds it among several",
        )
    if not row[5]:
        raise ServerRefused(
            "the role cannot see how far WAL was received",
            where=at.safe_address,
            fix="run infra/local/roles_backup.sql as a superuser, which grants pg_read_all_stats",
        )
    if programs.major() != server.major:
        raise ServerRefused(
            f"the server is PostgreSQL {server.major}, the programs have version {programs.major()}",
            where=at.safe_address,
            fix=f"set MEDALLION_POSTGRES_PROGRAMS to the folder of version {server.major}'s programs",
        )
    return server


@contextmanager
def connect(at: DatabaseConnection) -> Iterator[psycopg.Connection]:
    """A session that commits each statement. Raises ServerRefused, in words without the password."""
    try:
        session = psycopg.connect(
            at.url,
            autocommit=True,
            connect_timeout=int(settings().connect_timeout_seconds),
            application_name="medallion backup",
        )
    except psycopg.Error as error:
        raise _unreachable(at, str(error)) from None
    with session:
        yield session


def position(session: psycopg.Connection) -> Watermark:
    """A moment, and a position up to which the log is on disk that holds all that was committed until then.

    Commits that do not wait for the disk (`synchronous_commit = off`) are there after three times `wal_writer_delay` at
    most (PostgreSQL's manual, chapter Asynchronous Commit): the moment lies that far back.
    """
    row = session.execute(
        # The clock is read first: nothing committed before it can lie behind the position.
        "select clock_timestamp() - 3 * current_setting('wal_writer_delay')::interval, "
        "pg_current_wal_flush_lsn()::text, pg_walfile_name(pg_current_wal_flush_lsn())"
    ).fetchone()
    assert row is not None
    moment: datetime = row[0]
    return Watermark(int(row[2][:8], 16), row[1], moment.astimezone(UTC))


def clock(session: psycopg.Connection) -> datetime:
    """The server's clock, in UTC."""
    row = session.execute("select clock_timestamp()").fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment.astimezone(UTC)


@dataclass(frozen=True)
class Slot:
    """Our replication slot: how many bytes of log the server keeps for it, and whether it has given up on us."""

    kept_bytes: int
    lost: bool
    active: bool


def slot(session: psycopg.Connection) -> Slot | None:
    """The slot as the server sees it; None where it is not there."""
    row = session.execute(
        "select coalesce(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn), 0)::bigint, "
        "wal_status is not distinct from 'lost', active from pg_replication_slots where slot_name = %s",
        [SLOT],
    ).fetchone()
    return None if row is None else Slot(*row)


def _identify_system(at: DatabaseConnection) -> str:
    # A connection of the replication protocol: what pg_basebackup will be, refused here in words that help.
    connection = PGconn.connect(make_conninfo(at.url, replication="true", connect_timeout=10).encode())
    try:
        if connection.status != ConnStatus.OK:
            raise _unreachable(at, connection.error_message.decode(errors="replace"))
        answer = connection.exec_(b"IDENTIFY_SYSTEM")
        value = answer.get_value(0, 0) if answer.status == ExecStatus.TUPLES_OK else None
        if value is None:
            raise _unreachable(at, connection.error_message.decode(errors="replace"))
        return value.decode()
    finally:
        connection.finish()


def _unreachable(at: DatabaseConnection, said: str) -> ServerRefused:
    if "replication" in said or "no pg_hba.conf entry" in said or "walsender" in said:
        return ServerRefused(
            "the role lacks the replication privilege, which copying a cluster needs",
            where=at.safe_address,
            fix=_MANAGED + _GRANTS,
        )
    if "authentication failed" in said:
        return ServerRefused("the password is wrong", where=at.safe_address, fix="correct MEDALLION_BACKUP_URL")
    return ServerRefused(
        "the cluster cannot be reached",
        where=at.safe_address,
        fix="check that it is up, and check MEDALLION_BACKUP_URL",
        retryable=True,
    )
