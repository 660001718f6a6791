"""A server that is a program of its own, for as long as a test wants it."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

START_SECONDS = 40  # Kinto takes 1 s alone, and many times that when every core runs tests


@contextmanager
def program(
    command: Sequence[str], *, ready: str, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[None]:
    """Run `command` until the block ends; enter it once `ready` answers anything but an error of the server.

    Raises:
        RuntimeError: it ended, or did not answer in time; with the end of what it said.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **(env or {})}, cwd=cwd
        )
    try:
        until = time.monotonic() + START_SECONDS
        while not _answers(ready):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command[0]} does not answer at {ready}: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code < 500
    except httpx.TransportError:
        return False
