"""What a store of objects answers at bad moments: one on loopback that overwrites, refuses, and has its own clock."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows.kinds.files.bucket import Bucket
from flows.values.errors import SourceError
from tests.kinds.loading import setting

WRITTEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Store(ThreadingHTTPServer):
    """One object, and what happens to it after the next look. As S3, it heeds If-Match when it deletes."""

    tag: str | None = '"one"'
    then: str | None = None
    status = 200
    clock = WRITTEN + timedelta(seconds=20)

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[str] = []


class Answer(BaseHTTPRequestHandler):
    server: Store

    def date_time_string(self, timestamp: float | None = None) -> str:
        return format_datetime(self.server.clock, usegmt=True)

    def log_message(self, format: str, *args: object) -> None:
        """Not on the terminal of the tests."""

    def do_HEAD(self) -> None:
        store = self.server
        status = store.status if store.tag else 404
        self.send_response(status)
        if status == 200:
            self.send_header("ETag", str(store.tag))
            self.send_header("Last-Modified", format_datetime(WRITTEN, usegmt=True))
            self.send_header("Content-Length", "8")
        self.end_headers()
        store.tag, store.then = store.then or store.tag, None

    def do_DELETE(self) -> None:
        store = self.server
        store.asked.append("delete")
        wanted = self.headers.get("If-Match", store.tag)
        if store.status == 200 and wanted == store.tag:
            store.tag = None
            self.send_response(204)
            self.end_headers()
            return
        body = b"<Error><Code>AccessDenied</Code></Error>"
        if store.status == 200:
            body = b"<Error><Code>PreconditionFailed</Code></Error>"
        self.send_response(412 if store.status == 200 else store.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    server = Store()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with setting(aws_endpoint_url=f"http://127.0.0.1:{server.server_port}"):
        yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def bucket(store: Store) -> Bucket:
    return Bucket("drop", "", ("key", "secret"))


def test_an_object_that_is_overwritten_before_it_is_deleted_stays(store: Store, bucket: Bucket) -> None:
    store.then = '"two"'
    assert not bucket.release("a.csv", "8:one", None)
    assert (store.asked, store.tag) == (["delete"], '"two"')


def test_an_object_that_nobody_touched_is_deleted(store: Store, bucket: Bucket) -> None:
    assert bucket.release("a.csv", "8:one", None)
    assert store.tag is None
    assert bucket.look("a.csv") is None


def test_an_object_that_may_not_be_read_is_not_taken_for_one_that_is_gone(store: Store, bucket: Bucket) -> None:
    store.status = 403
    with pytest.raises(SourceError, match=r"object cannot be looked at \(403\)") as caught:
        bucket.look("a.csv")
    assert caught.value.retryable


def test_an_object_settles_by_the_clock_of_its_store(store: Store, bucket: Bucket) -> None:
    """Ours is months away from it here, and must not make an object old."""
    assert abs(datetime.now(UTC) - store.clock) > timedelta(days=30)
    found = bucket.look("a.csv")
    assert found is not None
    assert found.quiet == 20
