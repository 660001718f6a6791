"""Buckets of S3, and whatever else fsspec reads."""

from dataclasses import replace
from itertools import count
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from flows.access.addresses import SourceAddress
from flows.declare import Append
from flows.kinds.files import Archive, Delete, Files, FileTable, Parquet, Settled
from flows.kinds.files.kind import FileDrops
from flows.values.errors import SourceError
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.kinds.files.loading import LINES, Drop
from tests.kinds.files.test_archives import packed
from tests.kinds.loading import at
from tests.moto_aws import Aws
from tests.sessions import take_over_sessions

_buckets = count()


@pytest.fixture
def bucket(aws: Aws) -> tuple[Any, str]:
    """A client, and the name of an empty bucket."""
    client, name = aws.client("s3"), f"drop-{next(_buckets)}"
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return client, name


async def load_from(warehouse: TestDatabase, url: str, table: FileTable = LINES, **options: Any) -> Any:
    source = Files("drop", connection="drop", tables=[table], **{"ready": Settled("0 s"), **options})
    take_over_sessions()
    return await load_table(at(warehouse, "loader"), SourceAddress(url), source, table)


async def test_objects_of_a_bucket_are_files(drop: Drop, bucket: tuple[Any, str]) -> None:
    s3, name = bucket
    s3.put_object(Bucket=name, Key="in/a.csv", Body=b"x;y\n1;one\n")
    s3.put_object(Bucket=name, Key="in/deep/b.csv", Body=b"x;y\n2;two\n")
    s3.put_object(Bucket=name, Key="out/c.csv", Body=b"x;y\n3;three\n")
    s3.create_multipart_upload(Bucket=name, Key="in/unfinished.csv")
    url = f"s3://{name}/in"

    await load_from(drop.warehouse, url, acknowledge=Archive("done"))

    assert drop.raw("x, y, _file") == [("1", "one", "a.csv"), ("2", "two", "deep/b.csv")]
    listed = sorted(one["Key"] for one in s3.list_objects_v2(Bucket=name)["Contents"])
    assert listed == ["in/done/a.csv", "in/done/deep/b.csv", "out/c.csv"]
    s3.put_object(Bucket=name, Key="in/a.csv", Body=b"x;y\n1;uno\n")
    result = await load_from(drop.warehouse, url, acknowledge=Delete())
    assert (result.warning, drop.raw("x, y")) == (None, [("1", "uno"), ("2", "two")])


async def test_archives_and_parquet_of_a_bucket(drop: Drop, bucket: tuple[Any, str]) -> None:
    s3, name = bucket
    s3.put_object(Bucket=name, Key="a.zip", Body=packed(("one.csv", "x;y\n1;one\n"), ("two.csv", "x;y\n2;two\n")))
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table({"x": ["3"]}), sink)
    s3.put_object(Bucket=name, Key="b.parquet", Body=sink.getvalue().to_pybytes())

    await load_from(drop.warehouse, f"s3://{name}", replace(LINES, match="*.zip"))
    frames = FileTable("lines", match="*.parquet", load=Append(), format=Parquet())
    await load_from(drop.warehouse, f"s3://{name}", frames)

    assert [row[0] for row in drop.raw("_file, x")] == ["a.zip/one.csv", "a.zip/two.csv", "b.parquet"]


async def test_an_object_that_is_overwritten_while_it_is_read_is_left_alone(
    drop: Drop, bucket: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.kinds.files.bucket import Bucket

    s3, name = bucket
    s3.put_object(Bucket=name, Key="a.csv", Body=b"x;y\n1;one\n")
    listed = Bucket.matching

    def late(*arguments: Any) -> Any:
        found = listed(*arguments)
        s3.put_object(Bucket=name, Key="a.csv", Body=b"x;y\n1;uno\n")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "matching", late)
        result = await load_from(drop.warehouse, f"s3://{name}")
    assert "a.csv: it cannot be opened (PreconditionFailed)" in str(result.warning)
    assert (await load_from(drop.warehouse, f"s3://{name}")).counts.rows_inserted == 1


async def test_a_bucket_that_is_not_there_is_an_error_of_the_source(drop: Drop, bucket: tuple[Any, str]) -> None:
    with pytest.raises(SourceError, match=r"bucket nowhere cannot be listed \(NoSuchBucket\)"):
        await load_from(drop.warehouse, "s3://nowhere/in")


async def test_whatever_fsspec_reads_is_a_place(drop: Drop) -> None:
    files = fsspec.filesystem("memory")
    files.pipe("/drop-of-a-test/in/a.csv", b"x;y\n1;one\n")
    try:
        await load_from(drop.warehouse, "memory://drop-of-a-test")
        assert drop.raw("x, y, _file") == [("1", "one", "in/a.csv")]
        files.pipe("/drop-of-a-test/in/a.csv", b"x;y\n2;two\n")
        await load_from(drop.warehouse, "memory://drop-of-a-test")
        assert drop.raw("x, y") == [("2", "two")]
    finally:
        files.rm("/drop-of-a-test", recursive=True)
    with pytest.raises(SourceError, match="the folder cannot be listed"):
        await load_from(drop.warehouse, "memory://drop-of-a-test")


def test_lineage_names_files_by_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Files("drop", connection="drop", tables=[LINES])
    for url, expected in (
        ("s3://bucket/in", ("s3://bucket", "in/**/*.csv*")),
        ("sftp://ada:secret@host/in", ("sftp://host", "in/**/*.csv*")),
        ("file:///srv/drop/", ("file", "/srv/drop/**/*.csv*")),
    ):
        monkeypatch.setenv("MEDALLION_SOURCE_DROP_URL", url)
        found = FileDrops().dataset(source, LINES)
        assert (found.namespace, found.name) == expected


async def test_where_a_place_does_not_tell_when_files_were_written_none_is_settled(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web server lists names alone: a file that is still growing there must not be taken for a whole one."""
    memory = fsspec.filesystem("memory")
    memory.pipe("/untold/a.csv", b"x;y\n1;one\n")
    for name in ("find", "ls", "info"):
        monkeypatch.setattr(type(memory), name, without_times(getattr(type(memory), name)))

    result = await load_from(drop.warehouse, "memory://untold", ready=Settled("30 s"))
    assert "does not tell when it was written" in str(result.warning)
    await load_from(drop.warehouse, "memory://untold", ready=Settled("0 s"))
    assert drop.raw("x, y") == [("1", "one")]


def without_times(asked: Any) -> Any:
    """What a file system says of files, without when they were written."""

    def answer(*arguments: Any, **options: Any) -> Any:
        said = asked(*arguments, **options)
        entries = said if isinstance(said, list) else [said, *said.values()]
        for entry in entries:
            if isinstance(entry, dict):
                for name in ("created", "modified"):
                    entry.pop(name, None)
        return said

    return answer
