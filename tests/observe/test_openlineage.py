"""Events as the specification wants them, at a file and at a real HTTP server; and no harm when nobody takes them."""

import json
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from openlineage.client.event_v2 import RunEvent
from openlineage.client.serde import Serde

from flows.observe.openlineage import Dataset, Destination, LineageRun, api_dataset, database_dataset, emit, run_event
from tests.observe.openlineage_schema import mistakes

WAREHOUSE = "postgresql://loader:canary-pw@db.example.com/warehouse?sslmode=verify-full"
RUN = LineageRun(uuid.uuid4(), "ingest.shop", tags={"run_id": "7", "correlation_id": "abc"}, kind="FLOW")


def events() -> list[RunEvent]:
    part = RUN.part("ingest.shop.baskets", kind="LOAD", tags={"batch_id": "9"})
    read = database_dataset("postgresql://reader@shop.example.com:6432/shop", "public", "baskets")
    written = database_dataset(
        WAREHOUSE,
        "raw_shop",
        "baskets",
        columns=[("basket_id", "bigint", "The basket's number."), ("sold_at", "timestamp with time zone", "")],
        made_of={"basket_id": [(read.namespace, read.name, "basket_id")], "sold_at": []},
        rows=12,
        bytes=3400,
    )
    tested = Dataset(
        "postgres://h:5432", "w.gold.x", assertions=[("keys_hold", "", True, "error"), ("known", "a", False, "warn")]
    )
    return [
        run_event("medallion", "START", part, at=datetime(2026, 1, 2, tzinfo=UTC), inputs=[read], outputs=[written]),
        run_event("medallion", "COMPLETE", part, inputs=[read, tested], outputs=[written]),
        run_event("medallion", "FAIL", part, error="the source does not answer"),
    ]


def as_json(event: RunEvent) -> dict[str, Any]:
    found = json.loads(Serde.to_json(event))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_event_is_as_the_specification_wants_it(place: int) -> None:
    assert mistakes(as_json(events()[place])) == []


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("eventTime",), "yesterday"),
        (("eventType",), "DONE"),
        (("run", "runId"), "7"),
        (("run", "facets", "parent", "run", "runId"), 7),
        (("outputs", 0, "namespace"), None),
        (("outputs", 0, "facets", "columnLineage", "fields", "basket_id", "inputFields"), "shop"),
        (("outputs", 0, "outputFacets", "outputStatistics", "rowCount"), "12"),
        (("job", "facets", "jobType", "invented"), 1),
    ],
)
def test_a_mistake_is_found(path: tuple[Any, ...], wrong: object) -> None:
    """Else the test before this one would prove nothing."""
    event = as_json(events()[1])
    inner = event
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = wrong
    assert mistakes(event)


def test_datasets_are_named_as_openlineage_names_them_and_without_passwords() -> None:
    table = database_dataset(WAREHOUSE, "gold", "dim_store")
    assert (table.namespace, table.name) == ("postgres://db.example.com:5432", "warehouse.gold.dim_store")
    endpoint = api_dataset("https://user:canary-pw@api.example.com/base", "/v1/coupons")
    assert (endpoint.namespace, endpoint.name) == ("https://api.example.com", "v1/coupons")
    assert "canary-pw" not in "".join(Serde.to_json(event) for event in events())


def test_the_same_part_of_the_same_run_has_the_same_id_and_another_run_another() -> None:
    one, again = RUN.part("ingest.shop.baskets", kind="LOAD"), RUN.part("ingest.shop.baskets", kind="LOAD")
    other = LineageRun(uuid.uuid4(), "ingest.shop").part("ingest.shop.baskets", kind="LOAD")
    assert one.run_id == again.run_id != other.run_id


def test_events_go_into_a_file_one_a_line(tmp_path: Path) -> None:
    to = Destination("medallion", file=tmp_path / "events" / "lineage.jsonl")
    assert emit(to, events()) == ""
    assert emit(to, events()[:1]) == ""
    assert to.file is not None
    lines = [json.loads(line) for line in to.file.read_text().splitlines()]
    assert [line["eventType"] for line in lines] == ["START", "COMPLETE", "FAIL", "START"]


class Taker(BaseHTTPRequestHandler):
    """Takes events, or answers with an error of the server's."""

    taken: list[tuple[str, str, dict[str, Any]]]
    status = 201

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.taken.append((self.path, self.headers.get("Authorization", ""), json.loads(body)))
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on the screen."""


@pytest.fixture
def server() -> Iterator[tuple[str, type[Taker]]]:
    taker = type("TakerOfOneTest", (Taker,), {"taken": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), taker) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", taker
        running.shutdown()
        thread.join()


def test_events_go_to_an_http_api_with_the_key(server: tuple[str, type[Taker]]) -> None:
    url, taker = server
    assert emit(Destination("medallion", url=url, key="canary-key"), events()) == ""
    assert [(path, key) for path, key, _ in taker.taken] == [("/api/v1/lineage", "Bearer canary-key")] * 3
    assert [event["eventType"] for *_, event in taker.taken] == ["START", "COMPLETE", "FAIL"]
    assert [mistakes(event) for *_, event in taker.taken] == [[], [], []]


def test_an_api_that_refuses_or_is_not_there_does_no_harm(server: tuple[str, type[Taker]]) -> None:
    url, taker = server
    taker.status = 400
    said = emit(Destination("medallion", url=url, key="canary-key"), events())
    assert "after 0 of 3 events" in said
    assert "canary-key" not in said
    assert "after 0 of 3 events" in emit(Destination("medallion", url="http://127.0.0.1:9"), events())


def test_nothing_is_sent_where_nothing_is_configured() -> None:
    assert not Destination("medallion").on
    assert emit(Destination("medallion"), events()) == ""
