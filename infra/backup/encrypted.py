"""Compressed and encrypted streams: zstd inside age, with constant memory for any length.

seal(reader, writer, keys)              everything that can be read, sealed into the writer
with decrypted(reader, keys) as plain:   the way back, checked as it is read
"""

import hashlib
import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Protocol, cast

import pyrage

from infra.backup.errors import Damaged, KeyRefused
from infra.backup.key import Keys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: What comes out of a table compresses to a third at level 3; higher levels cost seconds and gain percents.
LEVEL = 3
CHUNK = 1 << 20


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...


class Counted:
    """A writer that counts and hashes what passes through it."""

    def __init__(self, writer: Writable) -> None:
        self._writer, self._hash, self.bytes = writer, hashlib.sha256(), 0

    def write(self, data: bytes, /) -> int:
        self._writer.write(data)
        self._hash.update(data)
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        pass

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


class _Compressing:
    """What a reader gives, compressed, to be read. An error of the reader is kept: age's would only quote it."""

    def __init__(self, reader: Readable) -> None:
        self._reader, self._compressor = reader, zstd.ZstdCompressor(level=LEVEL)
        self._ready, self._ended = bytearray(), False
        self.error: BaseException | None = None

    def read(self, size: int = -1, /) -> bytes:
        try:
            while not self._ended and (size < 0 or len(self._ready) < size):
                chunk = self._reader.read(CHUNK)
                self._ready += self._compressor.compress(chunk) if chunk else self._compressor.flush()
                self._ended = not chunk
        except BaseException as error:
            self.error = error
            raise
        taken = bytes(self._ready if size < 0 else self._ready[:size])
        del self._ready[: len(taken)]
        return taken


def seal(reader: Readable, writer: Writable, keys: Keys) -> Counted:
    """Compress and encrypt everything that `reader` gives into `writer`; what was written, counted.

    Raises what the reader or the writer raised.
    """
    compressing, counted = _Compressing(reader), Counted(_Remembering(writer))
    try:
        pyrage.encrypt_io(_as_file(compressing), _as_file(counted), [keys.recipient])
    except (pyrage.EncryptError, OSError):
        failed = compressing.error or counted._writer.error  # type: ignore[attr-defined]
        if failed is not None:
            raise failed from None
        raise
    return counted


class _Remembering:
    """A writer whose error is kept, for the same reason."""

    def __init__(self, writer: Writable) -> None:
        self._writer = writer
        self.error: BaseException | None = None

    def write(self, data: bytes, /) -> int:
        try:
            return self._writer.write(data)
        except BaseException as error:
            self.error = error
            raise

    def flush(self) -> None:
        pass


class _Decompressing:
    """A writer of compressed bytes that hands them on as they were."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe, self._decompressor = pipe, zstd.ZstdDecompressor()

    def write(self, data: bytes, /) -> int:
        self._pipe.write(self._decompressor.decompress(data))
        return len(data)

    def flush(self) -> None:
        pass

    @property
    def ended(self) -> bool:
        return self._decompressor.eof


class _Opening:
    """A thread that opens a sealed stream into a pipe."""

    def __init__(self, reader: Readable, keys: Keys, pipe: IO[bytes]) -> None:
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._open, args=(reader, keys, pipe), daemon=True)
        self._thread.start()

    def _open(self, reader: Readable, keys: Keys, pipe: IO[bytes]) -> None:
        try:
            with pipe:
                plain = _Decompressing(pipe)
                pyrage.decrypt_io(_as_file(reader), _as_file(plain), list(keys.identities))
                if not plain.ended:
                    raise zstd.ZstdError("cut")
        except BaseException as error:
            self.error = error

    def join(self) -> None:
        self._thread.join()


@contextmanager
def decrypted(reader: Readable, keys: Keys, where: str) -> Iterator[IO[bytes]]:
    """The plain stream of a sealed one. It counts as whole only when the block has ended without an error.

    Raises:
        KeyRefused: none of the configured keys decrypts it.
        Damaged: it was truncated or changed after it was written.
    """
    descriptors = os.pipe()
    plain = os.fdopen(descriptors[0], "rb", buffering=CHUNK)
    opening = _Opening(reader, keys, os.fdopen(descriptors[1], "wb", buffering=CHUNK))
    try:
        yield plain
        while plain.read(CHUNK):
            pass
    except Exception:
        # A cut stream fails its reader first; why it was cut is what a person wants to know.
        plain.close()
        opening.join()
        if opening.error is not None and not isinstance(opening.error, BrokenPipeError):
            raise _explained(opening.error, where) from None
        raise
    finally:
        with suppress(OSError):
            plain.close()
        opening.join()
    if opening.error is not None:
        raise _explained(opening.error, where) from None


def decrypted_bytes(data: bytes, keys: Keys, where: str) -> bytes:
    """The plain bytes of sealed ones. Raises as `decrypted` does."""
    with decrypted(io.BytesIO(data), keys, where) as plain:
        return plain.read()


def encrypted_bytes(data: bytes, keys: Keys) -> bytes:
    """The bytes, sealed."""
    sealed: bytes = pyrage.encrypt(zstd.compress(data, LEVEL), [keys.recipient])
    return sealed


def _as_file(stream: Readable | Writable) -> io.BufferedIOBase:
    """What age is told it gets: it asks for no more of a stream than to read, or to write and flush."""
    return cast("io.BufferedIOBase", stream)


def _explained(error: BaseException, where: str) -> BaseException:
    if isinstance(error, pyrage.DecryptError) and "No matching keys" in str(error):
        return KeyRefused(
            "none of the configured keys decrypts it",
            where=where,
            fix="`medallion backup list` names the key it was encrypted with; add that key's line to the file of "
            "MEDALLION_BACKUP_KEY_FILE, or to MEDALLION_BACKUP_KEY",
        )
    if isinstance(error, pyrage.DecryptError | OSError | EOFError | zstd.ZstdError):
        return Damaged(
            "it was truncated or changed after it was written",
            where=where,
            fix="restore that file from a copy or an older version, or recover from another backup: "
            "`medallion backup list`",
        )
    return error
