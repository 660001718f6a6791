"""The web server: on loopback only. Others reach the dashboard by a reverse proxy with TLS, or by an SSH tunnel."""

from __future__ import annotations

import socket

import uvicorn

from flows.dashboard.app import build
from flows.dashboard.desk import Desk
from flows.values.errors import ConfigurationError

HOST = "127.0.0.1"
PORT = 4300


def listen(port: int) -> socket.socket:
    """The socket of the server; port 0 takes any free one.

    Raises:
        ConfigurationError: another program has the port.
    """
    try:
        return socket.create_server((HOST, port))
    except OSError as problem:
        raise ConfigurationError(
            f"port {port} cannot be opened ({type(problem).__name__})",
            where="medallion dashboard",
            fix="choose another with --port, or stop the program that has it",
        ) from None


def server(desk: Desk, port: int) -> uvicorn.Server:
    """A server for the dashboard; `run(sockets=[…])` serves until it is stopped."""
    config = uvicorn.Config(
        build(desk, port), log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        lifespan="on", timeout_graceful_shutdown=5,
    )  # fmt: skip
    return uvicorn.Server(config)
