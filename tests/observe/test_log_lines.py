"""Lines in both forms: nothing that is logged breaks one, and Prefect's are written as ours."""

import io
import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from flows.observe import tracing
from flows.observe.logs import about, configure, environment_of_workers
from flows.values.correlation import correlated, trace_id
from tests.conftest import ROOT
from tests.observe.otlp import Collector

# Each ends a line for some reader: Python, JavaScript, terminals, mainframes.
BREAKS = "a\nb\r\nc\x0bd\x0ce\x1cf\x85g\u2028h\u2029i\x1b[2Jj\udc80k"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, out = root.level, io.StringIO()
    handler = configure(form="json", stream=out)
    yield out
    root.removeHandler(handler)
    root.setLevel(before)


def only_line(stream: io.StringIO) -> dict[str, Any]:
    text = stream.getvalue()
    assert len(text.splitlines()) == 1
    assert text.encode()  # no surrogate that a file could not take
    line: dict[str, Any] = json.loads(text)
    return line


@pytest.mark.parametrize(
    "forged", [BREAKS, '"}\n{"level": "ERROR", "message": "forged"}'], ids=["breaks of lines", "an object"]
)
def test_a_value_breaks_no_line_wherever_it_stands(forged: str, stream: io.StringIO) -> None:
    try:
        raise ValueError(forged)
    except ValueError:
        logging.getLogger("flows.odd").error(
            "refused %s", forged, exc_info=True, extra={"column": forged, forged: 1, "nested": {forged: [forged]}}
        )
    line = only_line(stream)
    assert line["level"] == "ERROR"
    assert line["message"].startswith("refused ")
    assert "ValueError" in line["exception"]


def test_what_json_does_not_know_is_written_all_the_same(stream: io.StringIO) -> None:
    within: dict[str, Any] = {}
    within["itself"] = within
    logging.getLogger("x").info("odd", extra={"share": math.nan, "many": math.inf, "kept": {1, 2}, "number": 3})
    line = only_line(stream)
    assert (line["message"], line["share"], line["number"]) == ("odd", "nan", 3)


def test_a_line_says_which_source_table_and_run_it_is_about(stream: io.StringIO) -> None:
    with correlated("run-7"), about(source="shop", run=12), about(table="baskets"):
        logging.getLogger("x").info("read", extra={"rows": 3, "table": "its own"})
        expected = trace_id()
    line = only_line(stream)
    assert [line[name] for name in ("correlation_id", "trace_id", "source", "run", "table", "rows")] == [
        "run-7", expected, "shop", 12, "its own", 3,
    ]  # fmt: skip


def test_a_line_inside_of_a_span_leads_to_it(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        tracing.start()
        with correlated("run-7"), tracing.span("load"):
            logging.getLogger("x").info("read")
        tracing.stop()
    (one,) = collector.named("load")
    line = json.loads(stream.getvalue().splitlines()[0])
    assert (line["trace_id"], line["span_id"]) == (one.trace_id, one.span_id)


def test_for_people_an_exception_stands_below_its_line() -> None:
    out = io.StringIO()
    root = logging.getLogger()
    before = root.level
    handler = configure(form="pretty", stream=out)
    try:
        raise ValueError("password=hunter2")
    except ValueError:
        with correlated("run-7"), about(table="baskets"):
            logging.getLogger("x").exception("failed")
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
    first, *below = out.getvalue().splitlines()
    assert first.endswith("ERROR   x failed correlation_id=run-7 table=baskets")
    assert below[0].startswith("Traceback")
    assert "hunter2" not in out.getvalue()


_PREFECT = """
import logging
from prefect.logging import get_logger
from prefect.logging.configuration import setup_logging
{setup}
from flows.values.correlation import correlated
with correlated("run-7"):
    get_logger("prefect.flow_runs").warning("of a flow %s", "a\\nb", extra={{"flow_run_name": "ingest shop"}})
    setup_logging()  # as at the start of each flow run
    logging.getLogger("flows.tasks").info("of ours")
    logging.getLogger("prefect.worker").info("of a worker")
    logging.getLogger("elsewhere").debug("too little")
"""


@pytest.mark.parametrize(
    ("setup", "variables"),
    [
        ("setup_logging(); from flows.observe.logs import write_as; write_as('json')", {}),
        # The worker's own process, in which nothing of ours runs before Prefect.
        ("setup_logging(); logging.getLogger('flows').setLevel('INFO')", environment_of_workers("json")),
    ],
    ids=["in a run", "in a worker"],
)
def test_prefects_lines_are_json_as_ours(setup: str, variables: dict[str, str]) -> None:
    command = [sys.executable, "-c", _PREFECT.format(setup=setup)]
    environment = os.environ | variables | {"PREFECT_LOGGING_TO_API_ENABLED": "false"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["logger"], line["message"], line["correlation_id"]) for line in lines] == [
        ("prefect.flow_runs", "of a flow a\nb", "run-7"),
        ("flows.tasks", "of ours", "run-7"),
        ("prefect.worker", "of a worker", "run-7"),
    ]


def test_unset_nothing_changes() -> None:
    assert environment_of_workers(None) == {}
