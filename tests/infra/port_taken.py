"""A server that is killed, and the program that takes its port."""

import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from infra.local import ports
from infra.local.home import Home
from infra.local.prefect_server import PrefectServer
from infra.local.stack import Stack


@dataclass
class Listener:
    """A program on a port: what it was sent, a text for each connection. It answers 200 to everything."""

    heard: list[str] = field(default_factory=list)


@contextmanager
def listener_on(port: int) -> Iterator[Listener]:
    found = Listener()
    until = time.monotonic() + 10
    while not ports.is_free(port) and time.monotonic() < until:
        time.sleep(0.05)  # a process that was killed is gone before its threads are, which hold the socket
    with socket.create_server(("127.0.0.1", port), backlog=128) as listening:

        def serve(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.settimeout(2)
                found.heard.append(connection.recv(65_536).decode("latin-1"))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ntrue")

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield found
        listening.shutdown(socket.SHUT_RDWR)


def kill(home: Home, stack: Stack) -> None:
    os.killpg(stack.prefect.pid, signal.SIGKILL)
    server = PrefectServer.of(home)
    while server.running() is not None:
        time.sleep(0.01)


def port_for_long() -> int:
    """A free port that the system gives to nobody who asks for any."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    return next(port for port in random.sample(range(lowest - 10_000, lowest), 100) if ports.is_free(port))
