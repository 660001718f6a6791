"""The port of a service: the configured one, the previous one, or a free one."""

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
            fix=f"set {variable} to a number from 1 to 65535, or unset it to use a free port",
        )
    if not is_free(int(value)):
        raise taken(service, int(value), variable)
    return int(value)


def listen(service: str, variable: str, preferred: int | None = None, port: int | None = None) -> socket.socket:
    """A socket that listens on 127.0.0.1, so that its port is nobody else's from now on; the caller closes it.

    The port is `port`, else that of the environment's `variable`, else `preferred` while it is free, else any free one.
    Raises PortTaken, StackError as `configured` does.
    """
    wanted = port if port is not None else configured(service, variable)
    for candidate in (wanted,) if wanted is not None else (preferred, 0):
        if candidate is not None and (listening := _bound(candidate)) is not None:
            return listening
    raise taken(service, wanted or 0, variable)


def _bound(port: int) -> socket.socket | None:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # Closed connections of an earlier run would count as taken; a socket that listens still does.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen(128)
    except OSError:
        listening.close()
        return None
    return listening


def taken(service: str, port: int, variable: str) -> PortTaken:
    """The error for a port that another program holds."""
    return PortTaken(
        f"port {port} on {HOST} is in use by another program",
        where=service,
        fix=f"stop that program (`ss -ltnp 'sport = :{port}'` shows it), or set {variable} to another port, "
        "or unset it to use a free port",
    )
