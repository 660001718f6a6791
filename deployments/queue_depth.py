"""`python -m deployments.queue_depth POOL…`: the number of flow runs in work pools, for autoscalers and dashboards.

`/depth/POOL` returns `{"waiting": 3, "running": 2}` for KEDA; `/metrics` returns the same for Prometheus. If the
Prefect API does not respond, this returns 503: with 0, an autoscaler would remove workers while runs wait.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectException
from prefect.settings import get_current_settings
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

PORT = 8090


@dataclass(frozen=True, slots=True)
class Depth:
    """Flow runs of one work pool: those that are due and not running yet, and those that run."""

    waiting: int
    running: int


def depth(pool: str) -> Depth:
    """Ask the Prefect API in force. A run that is scheduled for later does not wait.

    Raises httpx.HTTPError and PrefectException.
    """
    pools = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))

    def of(*states: StateType) -> FlowRunFilter:
        return FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))),
            expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
        )

    with get_client(sync_client=True) as client:
        return Depth(
            waiting=client.count_flow_runs(
                flow_run_filter=of(StateType.SCHEDULED, StateType.PENDING), work_pool_filter=pools
            ),
            running=client.count_flow_runs(flow_run_filter=of(StateType.RUNNING), work_pool_filter=pools),
        )


class Depths(Collector):
    """The depths of work pools, asked anew whenever Prometheus asks."""

    def __init__(self, pools: Sequence[str]) -> None:
        self._pools = pools

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily("medallion_flow_runs", "Flow runs of a work pool", labels=("pool", "state"))
        for pool in self._pools:
            for state, count in asdict(depth(pool)).items():
                family.add_metric((pool, state), count)
        yield family


class Server(ThreadingHTTPServer):
    """Answers for the work pools that are named, and for no others."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], pools: Sequence[str]) -> None:
        super().__init__(address, _Request)
        self.pools = pools
        # Without describing itself a collector is asked for its metrics at once, and the API may not be up yet.
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(Depths(pools))


class _Request(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        """Answer /depth/POOL, /metrics and /health."""
        try:
            self._answer()
        except (httpx.HTTPError, PrefectException) as problem:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, f"the Prefect API does not respond: {type(problem).__name__}\n")

    def _answer(self) -> None:
        folder, _, pool = self.path.lstrip("/").partition("/")
        if self.path == "/health":
            self._send(HTTPStatus.OK, "alive\n")
        elif self.path == "/metrics":
            self._send(HTTPStatus.OK, generate_latest(self.server.registry).decode(), CONTENT_TYPE_LATEST)
        elif folder == "depth" and pool in self.server.pools:
            self._send(HTTPStatus.OK, json.dumps(asdict(depth(pool))), "application/json")
        else:
            self._send(HTTPStatus.NOT_FOUND, "request /metrics, or /depth/ and the name of a configured work pool\n")

    def _send(self, status: HTTPStatus, text: str, kind: str = "text/plain; charset=utf-8") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: an autoscaler asks twice a minute."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until the process is told to end."""
    parser = argparse.ArgumentParser(prog="python -m deployments.queue_depth", description=__doc__)
    parser.add_argument("pools", nargs="+", metavar="POOL")
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104 # nosec B104 - policies decide who asks
    parser.add_argument("--port", type=int, default=PORT)
    given = parser.parse_args(arguments)
    if not get_current_settings().api.url:
        # Prefect would start a server of its own, in which nothing ever waits.
        parser.error("PREFECT_API_URL is not set")
    with Server((given.host, given.port), given.pools) as server:
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
