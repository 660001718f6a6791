"""Requests as spans, and the trace context in requests: for APIs that are declared to get it, and for no others."""

from dataclasses import replace

import pytest

from flows.kinds.api import Endpoint, Since
from flows.observe import tracing
from flows.values.correlation import correlated
from tests.kinds.api.http_lists import Listing
from tests.kinds.api.http_servers import serve
from tests.kinds.api.rest_reading import KEY, api, read
from tests.observe.otlp import Collector


@pytest.mark.parametrize("traced", [True, False], ids=["declared", "not declared"])
async def test_only_an_api_that_is_declared_so_gets_the_trace_context(
    traced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's server would learn when and how often which of our runs works."""
    items = Endpoint("items", path="/v1/items", cursor=Since("updated_since", field="updated_at"))
    declared = replace(api(items), traced=traced)
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        tracing.start()
        listing = Listing([{"id": n, "updated_at": "2017-01-01T00:00:00Z"} for n in range(2)])
        async with serve(forever=listing.by_page()) as server:
            with correlated("run-7"), tracing.span("load"):
                await read(server.url, items, declared, since="2017-03-03T00:00:00Z")
        tracing.stop()
    sent = [request.headers.get("traceparent") for request in server.requests]
    spans = collector.named("GET marketing.items")
    assert len(spans) == len(sent) > 0
    expected = {f"00-{one.trace_id}-{one.span_id}-01" for one in spans} if traced else {None}
    assert set(sent) == expected
    assert not any("run-7" in str(request) for request in server.requests)
    assert spans[0].attributes["http.request.method"] == "GET"
    assert spans[0].attributes["http.response.status_code"] == 200
    assert spans[0].attributes["url.template"] == "/v1/items"
    assert b"2017-03-03" not in b"".join(collector.bodies)  # in the query
    assert KEY.encode() not in b"".join(collector.bodies)
