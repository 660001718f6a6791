"""Looks at every process of this machine while tests run."""

import threading
from contextlib import suppress
from pathlib import Path


class Watched:
    """Every process of this machine meanwhile: its arguments, which any account may read, and its variables.

    Addresses may come by variables, so passwords stand there; a person never does.
    """

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self.variables: set[bytes] = set()
        self._over = threading.Event()
        self._eyes = threading.Thread(target=self._look)

    def __enter__(self) -> "Watched":
        self._eyes.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._eyes.join()

    def _look(self) -> None:
        while not self._over.wait(0.3):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    self.seen.add((process / "cmdline").read_bytes())
                    self.variables |= {*(process / "environ").read_bytes().split(b"\0")}
