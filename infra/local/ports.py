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


def configured(service: str, variable: str) -> int | None:
    """The port in `variable`; None where it is not set.

    Raises PortTaken when the port is another's, StackError when it is no port.
    """
    value = os.environ.get(variable)
    if not value:
        return None
    if not value.isdecimal() or not 0 < int(value) < 65536:
        raise StackError(
            f"{variable} is not a port: {value!r}",
            where=service,
            next_move=f"set {variable} to a number from 1 to 65535, or unset it and a free port is taken",
        )
    if not is_free(int(value)):
        raise taken(service, int(value), variable)
    return int(value)


def choose(service: str, variable: str, preferred: int | None = None) -> int:
    """The configured port, else `preferred` while it is free, else any free one. Raises as `configured` does."""
    port = configured(service, variable)
    if port is not None:
        return port
    return preferred if preferred is not None and is_free(preferred) else any_free()


def taken(service: str, port: int, variable: str) -> PortTaken:
    """The error for a port that another program holds."""
    return PortTaken(
        f"port {port} on {HOST} is taken by another program",
        where=service,
        next_move=f"stop that program (`ss -ltnp 'sport = :{port}'` names it), or set {variable} to another port, "
        "or unset it and a free one is taken",
    )
