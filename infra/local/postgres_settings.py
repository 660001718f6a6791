"""The settings of the embedded PostgreSQL."""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from infra.local.ports import HOST

#: For two cores and a few million rows. Everything here can be loaded again from its source, so a commit need not
#: wait for the disk; a crash of the machine loses at most the last instants, never consistency.
DEV_SETTINGS: Mapping[str, str] = {
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "synchronous_commit": "off",
    "jit": "off",  # compiling costs more than it gains on queries of this size
    "wal_level": "logical",  # change capture needs it, and it cannot be changed without a restart
    # A slot that nobody reads any more must not fill the disk: beyond this the server gives it up.
    "max_slot_wal_keep_size": "4GB",
    "max_connections": "100",
    # For the members of pg_use_reserved_connections: loads and models (15, and one for each run) and Prefect (15).
    "reserved_connections": "40",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Errors carry values of rows in DETAIL, CONTEXT and STATEMENT: keep them out of the log.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",  # five lines for each database created
}


def launch_settings(log: Path, port: int) -> dict[str, str]:
    """What does not depend on the use of a cluster: where it listens, and where it writes its log."""
    return {
        **_shared_memory_setting(),
        "port": str(port),
        "listen_addresses": HOST,
        "unix_socket_directories": "",
        # The collector opens its file again when it is asked to, so that the file can be renamed: `Cluster.rotate_log`.
        "logging_collector": "on",
        "log_directory": str(log.parent),
        "log_filename": log.name,
        "log_rotation_age": "0",
        "log_rotation_size": "0",
    }


def _shared_memory_setting() -> dict[str, str]:
    # Containers get 64 MB in /dev/shm by default, and a parallel hash join over the retail data needs more.
    with suppress(OSError):
        if shutil.disk_usage("/dev/shm").free < 256 * 1024**2:  # noqa: S108 # nosec B108 - a mount of the system's, not a file
            return {"dynamic_shared_memory_type": "mmap"}
    return {}
