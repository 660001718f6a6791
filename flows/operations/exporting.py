"""What a round of the watch exports: metrics are measured in it, and served and pushed at its end.

A scrape costs no query. Measuring takes a twentieth of the time at most, and what fails here is an alert; it never
stops the watch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector

from flows.failures.diagnose import explain
from flows.operations.alerts import Condition
from flows.operations.checks.names import METRICS_NOT_EXPORTED
from flows.operations.exported import Samples, exposition, measured, of_prefect
from flows.operations.freshness import Clocks
from flows.operations.metrics_push import Push
from flows.operations.metrics_server import MetricsServer
from flows.values.errors import ConfigurationError
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    from flows.operations.prefect_facts import PrefectFacts

_log = logging.getLogger(__name__)
_MEASURE_SECONDS = 10.0
#: Of the time, so much at most is spent on measuring: where it takes long, it is done less often.
_SHARE = 0.05
_PUSH_EVERY_SECONDS = 15.0
_TOLERATED = 3
_LISTEN_SECONDS = 2.0
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a round ended. `prefect`: None without a server; False if it does not answer."""

    at: float
    seconds: float
    warehouse: bool
    failed_checks: int
    prefect: PrefectFacts | bool | None = None


@dataclass(slots=True)
class Exporter:
    """Serves metrics, pushes them, both, or neither: then it measures nothing."""

    server: MetricsServer | None = None
    push: Push | None = None
    clocks: Clocks = field(default_factory=Clocks)
    _process: CollectorRegistry = field(init=False, repr=False)
    _warehouse: Samples | None = field(default=None, init=False)
    _next_measure: float = field(default=0.0, init=False)
    _next_push: float = field(default=0.0, init=False)
    _rounds: int = field(default=0, init=False)
    _refused: int = field(default=0, init=False)
    _problems: dict[str, str] = field(default_factory=dict, init=False)
    _pushing: asyncio.Task[None] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)

    async def measure(self, connection: Connection[Record], elapsed: Callable[[], float]) -> None:
        """Measure the warehouse, if it is time."""
        began = elapsed()
        if self.server is None and self.push is None:
            return
        if began < self._next_measure:
            return
        try:
            async with asyncio.timeout(_MEASURE_SECONDS):
                self._warehouse = await measured(connection, self.clocks)
            self._problems.pop("measure", None)
        except Exception as problem:
            self._warehouse = None
            what = f"no result within {_MEASURE_SECONDS:.0f} s" if isinstance(problem, TimeoutError) else None
            self._problems["measure"] = what or explain(problem, "warehouse").what
        self._next_measure = elapsed() + (elapsed() - began) / _SHARE

    async def show(self, ended: Ended, elapsed: float) -> None:
        """Serve and push what is known at the end of a round. Waits for no client and no receiver."""
        if self.server is None and self.push is None:
            return
        if not ended.warehouse:
            self._warehouse = None  # what was before is not what is
        self._rounds += 1
        text = exposition(self._samples(ended), self._process)
        if self.server is not None:
            await self._listen(self.server)
            self.server.show(text)
        if self.push is not None and elapsed >= self._next_push and (self._pushing is None or self._pushing.done()):
            self._next_push = elapsed + _PUSH_EVERY_SECONDS
            self._pushing = asyncio.ensure_future(self._send(self.push, text))

    def found(self) -> list[Condition]:
        """The alerts that metrics are not measured, served or accepted."""
        fixes = {
            "measure": "read the log of the warehouse: a query of `medallion metrics` fails or is slow",
            "listen": "set MEDALLION_WATCH_LISTEN to a port that is free",
            "push": "check MEDALLION_METRICS_PUSH_URL, and that this machine reaches it",
        }
        return [
            Condition(METRICS_NOT_EXPORTED, name, "warning", what, fixes[name])
            for name, what in sorted(self._problems.items())
        ]

    async def close(self) -> None:
        """Stop serving and pushing."""
        if self._pushing is not None:
            await asyncio.wait({self._pushing}, timeout=_CLOSE_SECONDS)
            self._pushing.cancel()
        if self.server is not None:
            await self.server.close()
        if self.push is not None:
            await self.push.close()

    def _samples(self, ended: Ended) -> Samples:
        samples = Samples()
        if self._warehouse is not None:
            samples.merge(self._warehouse)
        if ended.prefect is not None:
            samples.add("prefect_up", bool(ended.prefect))
            if not isinstance(ended.prefect, bool):
                of_prefect(samples, ended.prefect)
        samples.add("warehouse_up", ended.warehouse)
        samples.add("warehouse_measured", self._warehouse is not None)
        samples.add("watch_round_timestamp_seconds", ended.at)
        samples.add("watch_round_duration_seconds", ended.seconds)
        samples.add("watch_rounds_total", self._rounds)
        samples.add("watch_checks_failed", ended.failed_checks)
        return samples

    async def _listen(self, server: MetricsServer) -> None:
        try:
            async with asyncio.timeout(_LISTEN_SECONDS):  # a name may be looked up
                await server.open()
            self._problems.pop("listen", None)
        except (OSError, TimeoutError) as problem:
            why = getattr(problem, "strerror", None) or type(problem).__name__
            self._problems["listen"] = f"{server.host}:{server.port}: {why}"
            _log.error("metrics are not served at %s", self._problems["listen"])

    async def _send(self, push: Push, text: bytes) -> None:
        problem = await push.send(text)
        self._refused = 0 if problem is None else self._refused + 1
        if problem is None:
            self._problems.pop("push", None)
        else:
            _log.warning("metrics were not accepted: %s", problem)
            if self._refused >= _TOLERATED:
                self._problems["push"] = f"the receiver of metrics does not accept them: {problem}"


def exporter(listen: str) -> Exporter:
    """What the settings ask for. `listen`: PORT or HOST:PORT, or empty.

    Raises:
        ConfigurationError: `listen` is neither.
    """
    token, push = settings().metrics_token, settings().metrics_push_url
    server = None
    if listen:
        server = MetricsServer(*where_to_listen(listen), token.get_secret_value() if token is not None else None)
    return Exporter(server, Push(push) if push is not None else None)


def where_to_listen(text: str) -> tuple[str, int]:
    """Host and port. A port alone is one of the loopback interface.

    Raises:
        ConfigurationError: it is neither PORT nor HOST:PORT.
    """
    host, separator, port = text.strip().rpartition(":")
    if not port.isascii() or not port.isdecimal() or int(port) > 65_535 or (separator and not host):
        raise ConfigurationError(
            f"{text!r} is neither PORT nor HOST:PORT",
            where="MEDALLION_WATCH_LISTEN",
            fix="use 9464 or 127.0.0.1:9464; 0.0.0.0:9464 for all interfaces",
        )
    return host.strip("[]") or "127.0.0.1", int(port)
