"""What can go wrong with backups.

BackupError
├── KeyRefused          no key, one that is none, or one that does not open this backup      exit 2
├── NoBackup            there is none here, or none that serves                              exit 2
├── OutOfReach          the moment asked for lies where no backup and no log reach           exit 2
├── InTheWay            something is where the recovered cluster is to go                    exit 2
├── Damaged             what was kept cannot be read, or is not what was written
├── LogGap              segments of the write-ahead log are missing
├── StoreFailed         the folder or bucket does not do what it is asked
├── ServerRefused       the cluster does not let itself be backed up
└── TargetMissed        a drill took longer, or would have lost more, than is allowed        exit 1
"""

from flows.values.errors import FailureClass, MedallionError


class BackupError(MedallionError):
    """A backup, a recovery or a drill cannot do what was asked."""


class KeyRefused(BackupError):
    """There is no key, or it does not open what it is held against."""

    exit_code = 2


class NoBackup(BackupError):
    """Nothing is kept that could be recovered from."""

    exit_code = 2


class OutOfReach(BackupError):
    """Neither a backup nor the write-ahead log reaches the moment that was asked for."""

    exit_code = 2


class InTheWay(BackupError):
    """Something is where the recovered cluster is to go, and nobody said that it may be moved aside."""

    exit_code = 2


class Damaged(BackupError):
    """What was kept cannot be read, or is not what was written."""

    failure_class = FailureClass.DATA


class LogGap(BackupError):
    """Segments of the write-ahead log are missing between the backup and where recovery is to end."""

    failure_class = FailureClass.DATA


class StoreFailed(BackupError):
    """The folder or bucket that backups are kept in failed."""


class ServerRefused(BackupError):
    """The cluster does not let itself be backed up by us."""


class TargetMissed(BackupError):
    """A drill took longer, or would have lost more, than the declared targets allow."""

    exit_code = 1
