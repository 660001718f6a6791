"""Machines that are network namespaces: each with a wire of its own to this one, and no other way out.

    with Machine("a", 0) as a:
        worker = a.start([...], environment)
        a.lose()                          # SIGKILL to everything that runs there, as when the power goes

A machine reaches this one at `a.gateway`, where nothing listens but what a test puts there, and nobody else can call.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType


def why_not() -> str | None:
    """Why namespaces cannot be made here; None when they can."""
    if shutil.which("ip") is None:
        return "the package iproute2 is not installed"
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    done = _ip("netns", "add", f"mdl-try-{os.getpid()}")
    if done.returncode != 0:
        return f"network namespaces are not allowed here: {done.stderr.strip()}"
    _ip("netns", "del", f"mdl-try-{os.getpid()}")
    return None


@dataclass
class Machine:
    """A namespace with a veth pair to ours; `number` keeps the addresses of two machines apart."""

    name: str
    number: int
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return f"mdl-{os.getpid()}-{self.name}"

    @property
    def gateway(self) -> str:
        """Our address on its wire."""
        return f"10.213.{os.getpid() % 250}.{4 * self.number + 1}"

    def __enter__(self) -> "Machine":
        ours, theirs = f"mdl{os.getpid() % 100000}{self.name}0", f"mdl{os.getpid() % 100000}{self.name}1"
        address = f"10.213.{os.getpid() % 250}.{4 * self.number + 2}/30"
        within = ("-n", self.namespace)
        _must("netns", "add", self.namespace)
        _must("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", self.namespace)
        _must("addr", "add", f"{self.gateway}/30", "dev", ours)
        _must("link", "set", ours, "up")
        _must(*within, "addr", "add", address, "dev", theirs)
        _must(*within, "link", "set", theirs, "up")
        _must(*within, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.lose()
        _ip("netns", "del", self.namespace)

    def start(self, command: Sequence[str], environment: Mapping[str, str], *, cwd: Path, log: Path) -> None:
        """Run a program there."""
        with log.open("ab") as output:
            self._processes.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", self.namespace, *command],
                    cwd=cwd,
                    env=dict(environment),
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    @property
    def pids(self) -> set[int]:
        """What runs there."""
        return {int(pid) for pid in _ip("netns", "pids", self.namespace).stdout.split()}

    def lose(self) -> None:
        """Kill everything there at once, until nothing is left."""
        while pids := self.pids:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in self._processes:
                process.wait()


def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)


def _must(*arguments: str) -> None:
    done = _ip(*arguments)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
