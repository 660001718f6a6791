"""Errors of backups.

BackupError
├── KeyRefused          no key, an invalid one, or one that does not decrypt this backup     exit 2
├── NoBackup            there is no suitable backup                                          exit 2
├── OutOfReach          no backup and WAL reach the requested moment                         exit 2
├── InTheWay            the target of the recovery already exists                            exit 2
├── Damaged             a stored file cannot be read, or differs from what was written
├── LogGap              segments of the write-ahead log are missing
├── StoreFailed         the folder or bucket failed
├── ServerRefused       the cluster cannot be backed up
└── TargetMissed        a drill missed its RPO or RTO target                                 exit 1
"""

from flows.values.errors import FailureClass, MedallionError


class BackupError(MedallionError):
    """A backup, a recovery or a drill failed."""


class KeyRefused(BackupError):
    """There is no key, or it does not decrypt the backup."""

    exit_code = 2


class NoBackup(BackupError):
    """There is no backup to recover from."""

    exit_code = 2


class OutOfReach(BackupError):
    """Neither a backup nor the write-ahead log reaches the requested moment."""

    exit_code = 2


class InTheWay(BackupError):
    """The target of the recovery already exists, and replacing it was not requested."""

    exit_code = 2


class Damaged(BackupError):
    """A stored file cannot be read, or differs from what was written."""

    failure_class = FailureClass.DATA


class LogGap(BackupError):
    """Segments of the write-ahead log are missing between the backup and the recovery target."""

    failure_class = FailureClass.DATA


class StoreFailed(BackupError):
    """The folder or bucket of the backups failed."""


class ServerRefused(BackupError):
    """The cluster cannot be backed up with this role or configuration."""


class TargetMissed(BackupError):
    """A drill missed its RPO or RTO target."""

    exit_code = 1
