"""Logs as they come out of the stream."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

from flows.observe.logs import configure, guard
from flows.values.correlation import correlated, correlation_id


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """A JSON log in memory; the root logger is as it was afterwards."""
    root = logging.getLogger()
    before = root.level
    out = io.StringIO()
    handler = configure(form="json", stream=out)
    yield out
    root.removeHandler(handler)
    root.setLevel(before)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_its_fields(stream: io.StringIO) -> None:
    with correlated("run-7"):
        logging.getLogger("flows.tasks.tables").info(
            "published %s", "baskets", extra={"rows": 12, "table": "shop.baskets"}
        )
    (line,) = lines(stream)
    assert line["time"].endswith("Z")
    assert {key: line[key] for key in ("level", "message", "correlation_id", "rows", "table")} == {
        "level": "INFO",
        "message": "published baskets",
        "correlation_id": "run-7",
        "rows": 12,
        "table": "shop.baskets",
    }


def test_a_secret_given_as_an_argument_of_the_message_is_masked(stream: io.StringIO) -> None:
    """Arguments are joined with the message only at the end, so masking the message alone would miss them."""
    logging.getLogger("x").warning(
        "connecting to %s", "postgresql://u:hunter2@h/d", extra={"headers": {"X-API-Key": "k9"}}
    )
    assert "hunter2" not in stream.getvalue()
    assert "k9" not in stream.getvalue()
    assert lines(stream)[0]["message"] == "connecting to postgresql://u:***@h/d"


def test_a_traceback_keeps_its_frames_and_loses_its_values(stream: io.StringIO) -> None:
    try:
        raise ValueError("DETAIL:  Key (email)=(ada@example.com) already exists.")
    except ValueError:
        logging.getLogger("x").exception("load failed")
    line = lines(stream)[0]
    assert line["message"] == "load failed"
    assert "test_logs.py" in line["exception"]
    assert "ValueError" in line["exception"]
    assert "ada@example.com" not in stream.getvalue()


def test_a_message_with_wrong_arguments_is_still_logged(stream: io.StringIO) -> None:
    logging.getLogger("x").warning("%d rows", "many")
    assert lines(stream)[0]["message"] == "%d rows"


def test_the_id_holds_in_its_context_only() -> None:
    with correlated("outer"), correlated() as inherited:
        assert inherited == "outer"
        with correlated("inner"):
            assert correlation_id() == "inner"
        assert correlation_id() == "outer"
        seen: list[str] = []
        thread = threading.Thread(target=lambda: seen.append(correlation_id()))
        thread.start()
        thread.join()
    assert seen == ["-"]
    assert correlation_id() == "-"


def test_a_child_process_goes_on_under_its_parents_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDALLION_CORRELATION_ID", "parent-1")
    with correlated() as inherited:
        assert inherited == "parent-1"


def test_a_handler_that_renders_exceptions_by_itself_gets_nothing_to_render() -> None:
    """Prefect's API handler and JSON formatter read `exc_info`; guarded, they find the masked text in the message."""
    seen: list[logging.LogRecord] = []

    class Rendering(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record)

    logger = logging.getLogger("prefect.flow_runs")
    handler = Rendering()
    logger.addHandler(handler)
    try:
        guard()
        guard()
        assert len(handler.filters) == 1
        try:
            raise RuntimeError("password=hunter2")
        except RuntimeError:
            logger.exception("failed", extra={"flow_run_id": "f-1"})
    finally:
        logger.removeHandler(handler)
    assert seen[0].exc_info is None
    assert "hunter2" not in seen[0].getMessage()
    assert seen[0].__dict__["flow_run_id"] == "f-1"


class _Empty(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the client's log is looked at."""


@pytest.mark.parametrize("client", [httpx, httpx2], ids=lambda client: client.__name__)
def test_a_requests_url_is_not_logged(client: ModuleType, stream: io.StringIO) -> None:
    """The query may hold a key under a name that nothing recognises as one."""
    with HTTPServer(("127.0.0.1", 0), _Empty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/lists?subscriber=s3same"
        client.get(url, trust_env=False)
        assert "s3same" not in stream.getvalue()
        logger = logging.getLogger(client.__name__)
        level = logger.level
        logger.setLevel(logging.INFO)
        client.get(url, trust_env=False)  # so that the test could fail
        logger.setLevel(level)
        server.shutdown()
    assert "s3same" in stream.getvalue()
