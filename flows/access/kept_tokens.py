"""Where tokens are kept between runs: in the store that has the source's credential.

    credential from                      kept in                                 one run at a time by
    the environment, the embedded stack  a file in <home>/tokens, mode 0600      a lock of the file
    Secrets Manager                      the secret <prefix>token-<connection>   a lock in the warehouse
    a Prefect block                      the block token-<connection>            a lock in the warehouse

It is a document of its own: `medallion register` and people write the credential's.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from flows.access import addresses, stores
from flows.failures.failpoints import pass_failpoint
from flows.values.errors import ConfigurationError, SourceUnavailable
from flows.values.kept_token import KeptToken, TokenKeeper
from flows.values.settings import settings

_POLL_SECONDS = 0.05


def keeper_of(connection: str) -> TokenKeeper:
    """The keeper for a connection's token, by where its credential is."""
    name = f"source-{connection}"
    if addresses.configured(connection, os.environ) is None:
        if stores.secret_document(name) is not None:
            return _Document(connection, "Secrets Manager", _read_secret, _write_secret)
        if stores.block_document(name, addresses.embedded_stack()) is not None:
            return _Document(connection, "block", _read_block, _write_block)
    return TokenFile(settings().home / "tokens" / f"{connection}.json")


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A file that only this account can read, replaced as a unit."""

    path: Path

    @property
    def where(self) -> str:
        """The file."""
        return f"{self.path.parent.name}/{self.path.name} in the home of medallion"

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """By a lock of the operating system, which releases it when the process dies."""
        with self._errors():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            until = _patience()
            while not _locked(lock):
                await _wait(until, self.where)
            yield
        finally:
            os.close(lock)

    def read(self) -> KeptToken | None:
        """The file's token."""
        try:
            with self._errors():
                text = self.path.read_text(encoding="utf-8")
        except _Missing:
            return None
        return _parsed(text, self.where)

    def write(self, kept: KeptToken) -> None:
        """Beside it, flushed to the disk, then in its place."""
        beside = self.path.with_suffix(f".{os.getpid()}")
        with self._errors():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                beside.unlink()
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(kept.facts(), file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # the new name, too
            finally:
                os.close(folder)

    @staticmethod
    def _errors() -> _FileErrors:
        return _FileErrors()


class _Missing(Exception):
    """There is no such file."""


class _FileErrors:
    """Errors of the file system as ours."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise _Missing from None
        if isinstance(error, OSError):
            raise ConfigurationError(
                f"tokens cannot be kept ({type(error).__name__}, {os.strerror(error.errno or 0)})",
                where="the folder tokens in the home of medallion",
                fix="make MEDALLION_HOME a folder that this account can write and that outlives the process; in "
                "containers, keep the credential in Secrets Manager or a block",
            ) from None


@dataclass(frozen=True, slots=True)
class _Document:
    """A document of a store that several machines share."""

    connection: str
    store: str
    reader: Callable[[str], str | None]
    writer: Callable[[str, str], None]

    @property
    def where(self) -> str:
        """The document."""
        return f"token-{self.connection} ({self.store})"

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """By a lock in the warehouse, which releases it when the session ends."""
        warehouse, name = addresses.warehouse(), f"token {self.connection}"
        async with addresses.connect(warehouse, side="warehouse", application="medallion token") as session:
            until = _patience()
            while not await session.fetchval("select ops.take_lock($1)", name):
                await _wait(until, self.where)
            try:
                yield
            finally:
                await session.execute("select ops.release_lock($1)", name)

    def read(self) -> KeptToken | None:
        """The document's token."""
        text = self.reader(f"token-{self.connection}")
        return None if text is None else _parsed(text, self.where)

    def write(self, kept: KeptToken) -> None:
        """As its next version."""
        self.writer(f"token-{self.connection}", json.dumps(kept.facts()))


def before_kept() -> None:
    """The server has answered, and nothing is kept yet: where a kill loses an answer."""
    pass_failpoint("token_before_kept", settings().failpoint)


def _parsed(text: str, where: str) -> KeptToken:
    try:
        return KeptToken.of(json.loads(text))
    except (ValueError, TypeError, KeyError):
        pass  # their text quotes the document
    raise ConfigurationError(
        "the kept token cannot be read",
        where=where,
        fix="delete it, authorise the app again, and set the new refresh token",
    )


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _patience() -> float:
    return time.monotonic() + settings().lock_wait_seconds


async def _wait(until: float, where: str) -> None:
    if time.monotonic() >= until:
        raise SourceUnavailable(
            "another run is renewing the token, and does not finish", where=where, fix="run again", retryable=True
        )
    await asyncio.sleep(_POLL_SECONDS)


def _read_secret(name: str) -> str | None:
    from blocks import aws
    from blocks.lookup import document_name

    return aws.text_of(document_name(name))


def _write_secret(name: str, text: str) -> None:
    from blocks import aws
    from blocks.lookup import document_name

    aws.put(document_name(name), text)


def _read_block(name: str) -> str | None:
    from blocks import documents

    return documents.kept_token(name)


def _write_block(name: str, text: str) -> None:
    from blocks import documents

    documents.keep_token(name, text)
