"""The interface of backup stores."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from infra.backup.encrypted import Readable, Writable


@dataclass(frozen=True, slots=True)
class Kept:
    """One object: its name below the store's root, and its size in bytes."""

    name: str
    bytes: int


class Store(Protocol):
    """What both kinds can do. A name either holds the whole of what was written, or what it held before."""

    @property
    def place(self) -> str:
        """Where it is, for messages."""

    def write(self, name: str) -> AbstractContextManager[Writable]:
        """Write an object; it is there once the block has ended without an error."""

    def read(self, name: str) -> AbstractContextManager[Readable]:
        """Read an object. Raises FileNotFoundError."""

    def list(self, prefix: str) -> "list[Kept]":
        """The objects whose names begin with the prefix, sorted."""

    def delete(self, name: str) -> None:
        """Delete an object; nothing happens where there is none."""

    def on_disk_of(self, folder: Path) -> bool:
        """Whether losing the disk of the folder loses what is kept here, too."""


def put(store: Store, name: str, data: bytes) -> None:
    """Write a small object."""
    with store.write(name) as writer:
        writer.write(data)


def get(store: Store, name: str) -> bytes:
    """Read a small object. Raises FileNotFoundError."""
    with store.read(name) as reader:
        return reader.read()
