"""A watch of a test's warehouse, with clocks that the test drives, and a real receiver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.declare import Route
from flows.operations.address_book import AddressBook
from flows.operations.alerts import Condition
from flows.operations.checks.check import Check, Need, Round
from flows.operations.direct import Direct
from flows.operations.outbox import Outbox
from flows.operations.prefect_api import find_api
from flows.operations.prefect_facts import PrefectReader
from flows.operations.watch_clock import Clock, Looked
from flows.operations.watching import Watch
from flows.values.settings import settings
from tests.operations.receivers import Webhook, webhook

ROUTES = (Route(["default"]),)


@dataclass
class Hands:
    """The hands of a clock. `jump` moves the wall clock alone, `pass_by` both."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    elapsed: float = 0.0

    def pass_by(self, time: timedelta) -> None:
        self.now += time
        self.elapsed += time.total_seconds()

    def jump(self, time: timedelta) -> None:
        self.now += time


@dataclass
class Watching:
    """A watch, its clock, and what the receiver got."""

    watch: Watch
    hands: Hands
    receiver: Webhook

    async def rounds(self, count: int = 1, every: timedelta = timedelta(seconds=10)) -> Looked:
        """So many rounds, and how the last one went."""
        for _ in range(count):
            self.hands.pass_by(every)
            looked = await self.watch.round()
        return looked

    @property
    def told(self) -> list[str]:
        """`event name subject` of each message, in order."""
        return [
            f"{message['event']} {alert['name']} {alert['subject']}"
            for message in self.receiver.accepted
            for alert in message["alerts"]
        ]


@contextmanager
def watching(
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    checks: Sequence[Check] = (),
    *,
    names: Sequence[str] | None = None,
    routes: Sequence[Route] = ROUTES,
    settle: timedelta = timedelta(),
    file: Path | None = None,
    **variables: str,
) -> Iterator[Watching]:
    """A watch of the warehouse at `url`; with `names`, it looks at those deployments of PREFECT_API_URL too."""
    with webhook() as receiver:
        for name, value in {
            "MEDALLION_WAREHOUSE_URL": url,
            "MEDALLION_ALERT_WEBHOOK_URL": receiver.url,
            **variables,
        }.items():
            monkeypatch.setenv(name, value)
        settings.cache_clear()
        hands = Hands()
        api = find_api() if names is not None else None
        book = AddressBook(["default"], api)
        yield Watching(
            Watch(
                checks,
                Outbox(routes, book.channel, settle),
                Direct(routes, book.channel, file, settle),
                book,
                PrefectReader(api, names or ()) if api is not None else None,
                Clock(lambda: hands.now, lambda: hands.elapsed),
                "here",
            ),
            hands,
            receiver,
        )
        settings.cache_clear()


def check(name: str, look: Callable[[Round], list[Condition]], *needs: Need, patience: float = 10) -> Check:
    """A check by a plain function."""

    async def looked(at: Round) -> list[Condition]:
        return look(at)

    return Check(name, looked, frozenset(needs), patience=patience)


async def hang(_: Round) -> list[Condition]:
    """A check that never ends."""
    await asyncio.Event().wait()
    return []
