"""Spans as a collector gets them, and what happens to a run when it does not."""

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from flows.observe import tracing
from flows.observe.statements import summary, template
from flows.values.correlation import correlated, trace_id, traceparent
from flows.values.errors import SourceUnavailable
from tests.conftest import ROOT
from tests.observe.otlp import Collector, took


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that this process sends its spans to."""
    with Collector() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        assert tracing.start("test")
        yield found
        tracing.stop()


def test_spans_are_nested_in_one_trace_per_correlation_id(collector: Collector) -> None:
    with correlated("abc"):
        with tracing.span("run", source="shop"), tracing.span("load", rows=3):
            assert traceparent() is not None
        expected = trace_id()
    with correlated("abc"), tracing.span("the same id in another process"):
        pass
    tracing.stop()

    run, load = collector.named("run")[0], collector.named("load")[0]
    assert {each.trace_id for each in collector.spans} == {expected}
    assert (load.parent_id, run.parent_id) == (run.span_id, "")
    assert run.attributes == {"medallion.correlation_id": "abc", "medallion.source": "shop"}
    assert load.attributes["medallion.rows"] == 3


def test_a_parent_from_the_environment_is_the_root_of_what_this_process_does(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a CI system or a shell script hands its span down."""
    monkeypatch.setenv("TRACEPARENT", f"00-{'ab' * 16}-{'cd' * 8}-01")
    with tracing.span("below the caller"):
        pass
    tracing.stop()

    (one,) = collector.spans
    assert (one.trace_id, one.parent_id) == ("ab" * 16, "cd" * 8)


def test_a_broken_parent_in_the_environment_is_none(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEPARENT", "00-'; drop table x; --")
    with tracing.span("alone"):
        pass
    tracing.stop()

    assert [each.parent_id for each in collector.spans] == [""]


def test_a_failed_span_has_our_own_text_or_the_type_of_a_foreign_exception(collector: Collector) -> None:
    with pytest.raises(ValueError, match="ada"), tracing.span("foreign"):
        raise ValueError("ada@example.com is no number")
    own = SourceUnavailable("the source does not answer", where="shop", fix="wait", retryable=True)
    with pytest.raises(SourceUnavailable), tracing.span("own", url="postgresql://u:hunter2@h/d"):
        raise own
    tracing.stop()

    foreign, ours = collector.named("foreign")[0], collector.named("own")[0]
    assert (foreign.failed, foreign.message, foreign.attributes["error.type"]) == (True, "", "ValueError")
    assert (ours.failed, ours.message) == (True, "the source does not answer")
    assert b"ada@example.com" not in b"".join(collector.bodies)
    assert b"hunter2" not in b"".join(collector.bodies)


def test_libraries_find_no_span_of_ours_that_they_could_send_on(collector: Collector) -> None:
    """The context of OpenTelemetry is what instrumented clients write into headers for whoever they call."""
    from opentelemetry import propagate, trace

    with tracing.span("ours"):
        headers: dict[str, str] = {}
        propagate.inject(headers)
        assert headers == {}
        assert not trace.get_current_span().get_span_context().is_valid


def test_a_collector_that_hangs_holds_up_neither_the_work_nor_its_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Collector(hangs=True) as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"{collector.url}/?key=hunter2")
        tracing.start()
        with took() as work:
            for _ in range(20_000):
                tracing.finished("SELECT", 1, 2, {})
        with took() as end, caplog.at_level(logging.WARNING):
            tracing.stop(0.3)
    assert collector.asked.is_set()
    assert work[0] < 10  # 50 us each on an idle machine
    assert end[0] < 2
    assert "hunter2" not in caplog.text


def test_a_collector_that_is_away_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        tracing.start()
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                with tracing.span("lost"):
                    pass
            tracing.stop(5)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("flows")] == [
        "spans cannot be delivered to 127.0.0.1; runs go on without"
    ]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
)
def test_variables_that_switch_traces_off_do(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv(variable, value)
    assert not tracing.start()
    assert not tracing.is_on()


def test_a_process_that_ends_delivers_its_last_spans() -> None:
    """As the process of a flow run on a worker, in which nothing of ours runs last."""
    code = "from flows.observe import tracing; tracing.start()\nwith tracing.span('last'): pass"
    with Collector() as collector:
        environment = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
        assert [span.name for span in collector.spans] == ["last"]


def test_without_an_endpoint_nothing_of_opentelemetry_is_imported() -> None:
    code = (
        "import sys; import flows.cli.app; from flows.observe import tracing; tracing.start(); "
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- statements


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select * from t where id = 42 and name = 'ada'", "select * from t where id = ? and name = ?"),
        ("select 'it''s', E'a\\'b', $$x$$, $q$y $$ z$q$", "select ?"),
        ('select x1, $1, "a 5" from t2 -- ada\'s\n where y > 1.5e3', 'select x1, $1, "a 5" from t2 where y > ?'),
        ("/*ada*/ insert into ops.runs values (1, 'a')", "insert into ops.runs values (?)"),
        ("select 'never ended", "select ?"),
    ],
)
def test_a_statement_is_shown_as_a_template_without_values(sql: str, expected: str) -> None:
    assert template(sql) == expected


def test_a_statement_is_named_by_what_it_does_to_what() -> None:
    assert summary(template("insert into ops.runs (a) values (1)")) == "INSERT ops.runs"
    assert summary(template("copy (select 1 from public.baskets) to stdout")) == "COPY public.baskets"
    assert summary(template("begin")) == "BEGIN"
