"""Files in a bucket of S3, or of another store with its interface."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, cast

from flows.kinds.files.archives import member
from flows.kinds.files.left import Left
from flows.kinds.files.pattern import Pattern
from flows.kinds.files.place import Found
from flows.values.errors import SourceError
from flows.values.settings import settings

_IN_MEMORY = 16_000_000
_BLOCK = 1 << 20
_GONE = frozenset({"404", "NoSuchKey", "NotFound"})
_OVERWRITTEN = frozenset({*_GONE, "412", "PreconditionFailed"})


class Bucket:
    """Objects below a prefix. What is uploaded in parts is listed when it is complete, so each object is whole.

    An object is read as it was listed (`IfMatch`): one that is overwritten meanwhile is skipped.
    """

    def __init__(self, name: str, prefix: str, keys: tuple[str, str] | None, skip: str | None = None) -> None:
        self._name = name
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._keys = keys
        self._skip = skip
        self._client: Any = None

    @property
    def _s3(self) -> Any:
        if self._client is None:
            import boto3

            key, secret = self._keys or (None, None)
            self._client = boto3.client(
                "s3",
                endpoint_url=settings().aws_endpoint_url,
                aws_access_key_id=key,
                aws_secret_access_key=secret,
            )
        return self._client

    def matching(self, pattern: Pattern, left: list[Left]) -> list[Found]:
        """The objects whose paths match."""
        folder = f"{pattern.folder}/" if pattern.folder else ""
        found = [one for one in self._listed(folder) if pattern.of(one.path) is not None]
        return sorted(found, key=lambda one: pattern.order(one.path))

    def beside(self, folder: str) -> dict[str, Found]:
        """The objects of one folder, by name."""
        return {one.name: one for one in self._listed(f"{folder}/" if folder else "") if one.folder == folder}

    def look(self, path: str) -> Found | None:
        """The object now; None if it is gone.

        Raises:
            SourceError: the store does not say, for example because the right to read it was withdrawn.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            head = self._s3.head_object(Bucket=self._name, Key=self._prefix + path)
        except (BotoCoreError, ClientError) as problem:
            if _code(problem) in _GONE:
                return None
            raise self._failed("object cannot be looked at", problem) from None
        return _found(path, head["ContentLength"], head["LastModified"], head["ETag"], head)

    @contextmanager
    def opened(self, found: Found) -> Iterator[BinaryIO]:
        """The object's bytes, as they come; those of a member of an archive by way of a temporary file."""
        if found.member:
            with self.seekable(found) as content:
                yield content
            return
        with self._body(found) as body:
            yield cast("BinaryIO", _Body(body))

    @contextmanager
    def seekable(self, found: Found) -> Iterator[BinaryIO]:
        """The object in a temporary file, or a member of it."""
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file, self._body(found) as body:
            for block in body.iter_chunks(_BLOCK):
                file.write(block)
            file.seek(0)
            if not found.member:
                yield cast("BinaryIO", file)
                return
            with member(cast("BinaryIO", file), found.member) as content:
                yield content

    def refuse_release(self) -> None:
        """The store deletes on condition."""

    def release(self, path: str, signature: str, to: str | None) -> bool:
        """Copy the object to another path if one is given, and delete it, unless it was overwritten by then.

        Raises:
            SourceError: the store refuses.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        now = self.look(path)
        if now is None or now.signature != signature:
            return False
        key, tag = self._prefix + path, f'"{signature.rpartition(":")[2]}"'
        try:
            if to is not None:
                source = {"Bucket": self._name, "Key": key}
                self._s3.copy_object(Bucket=self._name, Key=self._prefix + to, CopySource=source, CopySourceIfMatch=tag)
            # Between a look and a plain delete, a new object would be deleted that nobody has read.
            self._s3.delete_object(Bucket=self._name, Key=key, IfMatch=tag)
        except (BotoCoreError, ClientError) as problem:
            if _code(problem) in _OVERWRITTEN:
                return False
            raise self._failed("object cannot be archived or deleted", problem) from None
        return True

    def _failed(self, what: str, problem: Exception) -> SourceError:
        return SourceError(
            f"{what} ({_code(problem)})",
            where=f"s3://{self._name}",
            fix="check the bucket's name, the credentials, and their right to list, get, put and delete objects",
            retryable=True,
        )

    def _listed(self, folder: str) -> Iterator[Found]:
        from botocore.exceptions import BotoCoreError, ClientError

        skipped = f"{self._skip}/" if self._skip else None
        try:
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=self._prefix + folder)
            for page in pages:
                for entry in page.get("Contents", []):
                    path = entry["Key"].removeprefix(self._prefix)
                    if path.endswith("/") or (skipped and path.startswith(skipped)):
                        continue
                    yield _found(path, entry["Size"], entry["LastModified"], entry["ETag"], page)
        except (BotoCoreError, ClientError) as problem:
            raise self._failed(f"bucket {self._name} cannot be listed", problem) from None

    @contextmanager
    def _body(self, found: Found) -> Iterator[Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        tag = found.signature.rpartition(":")[2]
        try:
            answer = self._s3.get_object(Bucket=self._name, Key=self._prefix + found.at, IfMatch=f'"{tag}"')
        except (BotoCoreError, ClientError) as problem:
            # The reader takes it for a file that is gone, or was overwritten.
            raise OSError(0, _code(problem)) from None
        with closing(answer["Body"]) as body:
            yield body


class _Body:
    """A body whose errors are those of files."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def read(self, count: int = -1) -> bytes:
        """The next bytes."""
        from botocore.exceptions import BotoCoreError

        try:
            data: bytes = self._body.read(None if count < 0 else count)
        except BotoCoreError as problem:
            raise OSError(0, type(problem).__name__) from None
        return data


def _found(path: str, size: int, modified: datetime, tag: str, answer: Mapping[str, Any]) -> Found:
    # By the store's own clock, which its answer has: with ours, an object would look settled too early or never.
    said = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    now = parsedate_to_datetime(said) if said else datetime.now(UTC)
    plain = tag.strip('"')
    return Found(path, size, max(0.0, (now - modified).total_seconds()), f"{size}:{plain}")


def _code(problem: Exception) -> str:
    response = getattr(problem, "response", None) or {}
    return str(response.get("Error", {}).get("Code") or type(problem).__name__)
