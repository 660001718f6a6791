"""A folder and a bucket keep the same promises: a name holds the whole of what was written, or what it held before."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.backup import s3
from infra.backup.errors import StoreFailed
from infra.backup.kept import Store, get, put
from infra.backup.store import open_store
from tests.moto_aws import Aws, aws, moto

__all__ = ["aws", "moto"]


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    if request.param == "folder":
        yield open_store(str(tmp_path / "store"))
        return
    found: Aws = request.getfixturevalue("aws")
    name = f"backups-{secrets.token_hex(4)}"
    found.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    # S3 takes parts from 5 MB on.
    monkeypatch.setattr(s3, "PART_BYTES", 5 << 20)
    yield open_store(f"s3://{name}/below/here")


def test_what_is_written_is_read_listed_and_deleted(store: Store) -> None:
    put(store, "a/one", b"first")
    put(store, "a/two", b"second")
    put(store, "b/three", b"third")
    put(store, "a/one", b"replaced")

    assert get(store, "a/one") == b"replaced"
    assert [(kept.name, kept.bytes) for kept in store.list("a/")] == [("a/one", 8), ("a/two", 6)]
    store.delete("a/two")
    store.delete("a/two")
    assert [kept.name for kept in store.list("")] == ["a/one", "b/three"]
    with pytest.raises(FileNotFoundError):
        get(store, "a/two")


def test_a_large_object_comes_back_whole(store: Store) -> None:
    content = secrets.token_bytes(1 << 20)
    with store.write("large") as writer:
        for _ in range(12):
            writer.write(content)

    with store.read("large") as reader:
        assert b"".join(iter(lambda: reader.read(1 << 20), b"")) == content * 12


def test_what_fails_half_way_leaves_what_was_there(store: Store) -> None:
    put(store, "name", b"before")

    def fail_half_way() -> None:
        with store.write("name") as writer:
            writer.write(b"x" * (11 << 20))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()

    assert get(store, "name") == b"before"
    assert [kept.name for kept in store.list("")] == ["name"]
    if isinstance(store, s3.BucketStore):  # parts of an upload that nobody ends cost money, and no list shows them
        assert "Uploads" not in store.client.list_multipart_uploads(Bucket=store.bucket)


def test_a_bucket_that_is_not_there_is_told_with_the_next_move(aws: Aws) -> None:
    with pytest.raises(StoreFailed, match="NoSuchBucket") as refused:
        put(open_store("s3://nobodys-bucket/x"), "name", b"")

    assert "MEDALLION_AWS_ENDPOINT_URL" in refused.value.fix


def test_a_place_that_is_neither_a_folder_nor_s3_is_refused() -> None:
    with pytest.raises(StoreFailed, match="gs://"):
        open_store("gs://bucket")
