"""Which port a service listens on: the configured one, the one it had before, or a free one."""

import os
import socket

from infra.local.errors import PortTaken, StackError

HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Servers set this too; without it the closed connections of an earlier run would count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def any_free() -> int:
    """A port that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def choose(service: str, variable: str, preferred: int | None = None) -> int:
    """The port in `variable` where it is set, else `preferred` while it is free, else any free one.

    Raises PortTaken when the configured port is another's, StackError when it is no port.
    """
    configured = os.environ.get(variable)
    if not configured:
        return preferred if preferred is not None and is_free(preferred) else any_free()
    if not configured.isdecimal() or not 0 < int(configured) < 65536:
        raise StackError(
            f"{variable} is not a port: {configured!r}",
            where=service,
            next_move=f"set {variable} to a number from 1 to 65535, or unset it and a free port is taken",
        )
    port = int(configured)
    if not is_free(port):
        raise taken(service, port, variable)
    return port


def taken(service: str, port: int, variable: str) -> PortTaken:
    """The error for a port that another program holds."""
    return PortTaken(
        f"port {port} on {HOST} is taken by another program",
        where=service,
        next_move=f"stop that program (`ss -ltnp 'sport = :{port}'` names it), or set {variable} to another port, "
        "or unset it and a free one is taken",
    )
