"""Serve an application on a socket that was bound before this process started; see `Service.start`.

Whoever starts a server binds its port first and hands the socket over: between choosing a port and listening on it,
nobody else can take it.
"""

import socket
from collections.abc import Callable
from typing import Any

from infra.local import logs
from infra.local.guard import App, Guard


def listener(fd: int) -> socket.socket:
    """The socket that was handed over by its number. Programs that this process starts do not inherit it."""
    handed = socket.socket(fileno=fd)
    handed.set_inheritable(False)
    return handed


def port_of(listening: socket.socket) -> int:
    """The port it listens on."""
    return int(listening.getsockname()[1])


def serve(
    app: App, on: socket.socket, secret: str, folder: str, *bounded: Callable[[], object], **options: Any
) -> None:
    """Serve until the process is asked to end.

    `secret` and `folder` are what it proves its identity with. `bounded` keep the logs of others small, as this process
    keeps its own. `options` are uvicorn's.
    """
    import uvicorn

    logs.keep_bounded(*bounded)
    config = uvicorn.Config(Guard(app, port_of(on), secret, folder), log_level="warning", access_log=False, **options)
    uvicorn.Server(config).run(sockets=[on])
