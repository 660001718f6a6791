"""Backups in a prefix of an S3 bucket."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from blocks.aws import credentials
from infra.backup.encrypted import Readable
from infra.backup.errors import StoreFailed
from infra.backup.kept import Kept

#: Held in memory until it is sent. S3 takes 10,000 parts: 320 GB, compressed, in one backup.
PART_BYTES = 32 << 20
_PASSING = {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "503", "500"}


@dataclass(frozen=True)
class BucketStore:
    """Objects below `prefix`. Encryption at rest is the bucket's; what we write is sealed already."""

    bucket: str
    prefix: str
    client: Any = field(repr=False)

    @property
    def place(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @contextmanager
    def write(self, name: str) -> Iterator["_Upload"]:
        upload = _Upload(self, self._key(name))
        try:
            yield upload
            upload.complete()
        except (ClientError, BotoCoreError) as error:
            raise self._failed(error, name) from None
        finally:
            upload.abandon()

    @contextmanager
    def read(self, name: str) -> Iterator[Readable]:
        try:
            body = self.client.get_object(Bucket=self.bucket, Key=self._key(name))["Body"]
        except (ClientError, BotoCoreError) as error:
            if isinstance(error, ClientError) and _code(error) in ("NoSuchKey", "404"):
                raise FileNotFoundError(name) from None
            raise self._failed(error, name) from None
        with body:
            try:
                yield body
            except (ClientError, BotoCoreError) as error:
                raise self._failed(error, name) from None

    def list(self, prefix: str) -> "list[Kept]":
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._key(prefix))
        begin = len(self._key(""))
        try:
            found = [Kept(item["Key"][begin:], item["Size"]) for page in pages for item in page.get("Contents", ())]
        except (ClientError, BotoCoreError) as error:
            raise self._failed(error, prefix) from None
        return sorted(found, key=lambda kept: kept.name)

    def delete(self, name: str) -> None:
        try:
            self.client.delete_object(Bucket=self.bucket, Key=self._key(name))
        except (ClientError, BotoCoreError) as error:
            raise self._failed(error, name) from None

    def on_disk_of(self, folder: Path) -> bool:
        return False

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _failed(self, error: ClientError | BotoCoreError, name: str) -> StoreFailed:
        code = _code(error) if isinstance(error, ClientError) else type(error).__name__
        return StoreFailed(
            f"S3 answered {code} for {name}",
            where=self.place,
            fix="wait: S3 is busy"
            if code in _PASSING
            else "check that the bucket exists, and that this process may list, read, write and delete under the "
            "prefix and use the bucket's key; AWS_DEFAULT_REGION and MEDALLION_AWS_ENDPOINT_URL select the endpoint",
            retryable=code in _PASSING or not isinstance(error, ClientError),
        )


def open_bucket(place: str) -> BucketStore:
    """The store at `s3://bucket/prefix`, as who we are at the AWS in force. Raises StoreFailed."""
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    try:
        client = credentials().get_boto3_session().client("s3", endpoint_url=_endpoint())
    except (BotoCoreError, ValueError) as error:
        raise StoreFailed(
            f"S3 cannot be reached ({type(error).__name__})",
            where=place,
            fix="set AWS_DEFAULT_REGION, and give this process a role or AWS_ACCESS_KEY_ID",
        ) from None
    return BucketStore(bucket, prefix.strip("/"), client)


def _endpoint() -> str | None:
    endpoint = credentials().aws_client_parameters.endpoint_url
    return str(endpoint) if endpoint else None


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code"))


class _Upload:
    """An object in the making: one request where it is small, parts of 32 MB where it is not."""

    def __init__(self, store: BucketStore, key: str) -> None:
        self._client, self._where = store.client, {"Bucket": store.bucket, "Key": key}
        self._buffer, self._parts, self._id = bytearray(), list[dict[str, Any]](), ""

    def write(self, data: bytes, /) -> int:
        self._buffer += data
        if len(self._buffer) >= PART_BYTES:
            self._send()
        return len(data)

    def complete(self) -> None:
        if not self._id:
            self._client.put_object(**self._where, Body=bytes(self._buffer))
            return
        if self._buffer:
            self._send()
        self._client.complete_multipart_upload(**self._where, UploadId=self._id, MultipartUpload={"Parts": self._parts})
        self._id = ""

    def abandon(self) -> None:
        """Leave nothing behind of an upload that did not end; parts that cannot be taken back cost money unseen."""
        if self._id:
            with suppress(ClientError, BotoCoreError):
                self._client.abort_multipart_upload(**self._where, UploadId=self._id)

    def _send(self) -> None:
        if not self._id:
            self._id = self._client.create_multipart_upload(**self._where)["UploadId"]
        number = len(self._parts) + 1
        sent = self._client.upload_part(**self._where, UploadId=self._id, PartNumber=number, Body=bytes(self._buffer))
        self._parts.append({"ETag": sent["ETag"], "PartNumber": number})
        self._buffer.clear()
