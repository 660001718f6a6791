"""Slots of concurrency limits: taken once per run, passed on from table to table, and a limit across all processes."""

import asyncio
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError

from flows.tasks import slots
from flows.tasks.slots import shared_slots
from tests.deployments.asking import asked
from tests.eventually import eventually


@dataclass(frozen=True)
class Limit:
    """A source's limit of two, at the run's Prefect server. No limit `warehouse` exists there."""

    source: str
    api: str

    def in_use(self) -> int:
        return int(asked("GET", f"{self.api}/source-{self.source}").json()["active_slots"])


@pytest.fixture
def limit(prefect_server: str) -> Iterator[Limit]:
    found = Limit(secrets.token_hex(6), f"{prefect_server}/v2/concurrency_limits")
    asked("POST", f"{found.api}/", json={"name": f"source-{found.source}", "limit": 2}).raise_for_status()
    yield found
    asked("DELETE", f"{found.api}/source-{found.source}").raise_for_status()


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the server about slots."""
    sent: list[str] = []
    for name in ("increment_concurrency_slots_with_lease", "release_concurrency_slots_with_lease"):
        original = getattr(PrefectClient, name)

        async def counted(*given: Any, _name: str = name, _original: Any = original, **named: Any) -> Any:
            sent.append(_name.partition("_")[0])
            return await _original(*given, **named)

        monkeypatch.setattr(PrefectClient, name, counted)
    return sent


async def load(source: str, seconds: float = 0.01) -> None:
    async with slots.slots(source):
        await asyncio.sleep(seconds)


async def test_forty_tables_take_two_slots_and_give_them_back(limit: Limit, requests: list[str]) -> None:
    turns = asyncio.Semaphore(2)

    async def take_turn() -> None:
        async with turns:
            await load(limit.source)

    async with shared_slots(limit.source):
        await asyncio.gather(*(take_turn() for _ in range(40)))
        assert limit.in_use() == 2

    assert requests == ["increment"] * 2 + ["release"] * 2
    assert limit.in_use() == 0


async def test_without_a_run_that_shares_each_table_asks_for_itself(limit: Limit, requests: list[str]) -> None:
    """The control of the test above."""
    for _ in range(3):
        await load(limit.source)
    assert requests == ["increment", "release"] * 3


def overlap(spans: list[tuple[float, float]]) -> int:
    """How many were under way at once, at most."""
    return max(sum(began <= at < ended for began, ended in spans) for at, _ in spans)


def two_processes(limit: Limit, *options: str) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """The spans of the tables of two runs that begin at one time."""
    command = [sys.executable, "-m", "tests.tasks.slot_taker", limit.source, "30", "0.05", *options]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    first, second = ([(float(a), float(b)) for a, b in map(str.split, text.splitlines())] for text in said)
    return first, second


def test_two_processes_together_keep_to_the_limit_and_each_has_its_turn(limit: Limit) -> None:
    first, second = two_processes(limit)

    assert len(first) == len(second) == 30
    assert overlap([*first, *second]) <= 2
    # Neither waited until the other had ended.
    assert min(first) < max(second)
    assert min(second) < max(first)
    assert limit.in_use() == 0


def test_control_two_processes_that_do_not_ask_the_server_exceed_the_limit(limit: Limit) -> None:
    first, second = two_processes(limit, "unlimited")
    assert overlap([*first, *second]) > 2


async def _always() -> bool:
    return True


async def test_sources_of_one_process_take_turns(limit: Limit) -> None:
    """A pipeline loads them at once; the second does not wait until the first has loaded all of its tables."""
    assert await _second_waits(limit, slots._none) < 2


async def test_a_long_run_lets_other_processes_have_their_turn(limit: Limit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_NEIGHBOUR_TURN_SECONDS", 600.0)
    monkeypatch.setattr(slots, "TURN_SECONDS", 0.2)

    assert await _second_waits(limit, _always) < 2


async def test_control_a_run_that_never_gives_way_keeps_others_waiting(
    limit: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "_NEIGHBOUR_TURN_SECONDS", 600.0)
    monkeypatch.setattr(slots, "TURN_SECONDS", 600.0)

    assert await _second_waits(limit, _always) >= 2


async def _second_waits(limit: Limit, others: slots.Others) -> float:
    """How long a second run waits for the only slot, while the first keeps it busy for three seconds."""
    asked("PATCH", f"{limit.api}/source-{limit.source}", json={"limit": 1}).raise_for_status()
    began = asyncio.Event()

    async def tables(until: float) -> None:
        while time.monotonic() < until:
            async with slots.slots(limit.source):
                began.set()
                await asyncio.sleep(0.02)

    async def many() -> None:
        async with shared_slots(limit.source, others):
            until = time.monotonic() + 3
            await asyncio.gather(tables(until), tables(until))

    async def one() -> float:
        await began.wait()
        since = time.monotonic()
        async with shared_slots(limit.source, others):
            await load(limit.source)
        return time.monotonic() - since

    _, waited = await asyncio.gather(many(), one())
    return waited


async def test_a_run_that_is_cancelled_gives_its_slots_back_at_once(limit: Limit) -> None:
    async def run() -> None:
        async with shared_slots(limit.source):
            await asyncio.gather(*(load(limit.source, 600) for _ in range(5)))

    running = asyncio.create_task(run())
    await asyncio.to_thread(eventually, lambda: limit.in_use() == 2, 30)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert limit.in_use() == 0


async def test_a_slot_that_no_table_needs_is_free_for_others_before_the_run_ends(limit: Limit) -> None:
    async with shared_slots(limit.source):
        last = asyncio.create_task(load(limit.source, 600))
        await load(limit.source)
        await asyncio.to_thread(eventually, lambda: limit.in_use() == 1, 10)
        last.cancel()


async def test_a_slot_that_the_server_no_longer_counts_is_not_passed_on(
    limit: Limit, requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server was restarted, or a machine slept for longer than the lease."""
    monkeypatch.setattr(slots, "_RENEW_SECONDS", 0.05)
    async with shared_slots(limit.source) as pool:
        async with slots.slots(limit.source):
            (slot,) = pool._in_use
            asked("POST", f"{limit.api}/decrement-with-lease", json={"lease_id": str(slot.lease)}).raise_for_status()
            await asyncio.to_thread(eventually, lambda: slot.is_lost, 30)
        await load(limit.source)

    assert requests.count("increment") == 2
    assert limit.in_use() == 0


async def test_slots_are_leased_for_the_shortest_time_that_the_server_allows(
    limit: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    leased: list[float] = []
    original = PrefectClient.increment_concurrency_slots_with_lease

    async def noted(*given: Any, **named: Any) -> Any:
        leased.append(named["lease_duration"])
        return await original(*given, **named)

    monkeypatch.setattr(PrefectClient, "increment_concurrency_slots_with_lease", noted)
    await load(limit.source)
    assert leased == [60]


@pytest.mark.long
def test_the_slots_of_a_killed_run_are_free_after_its_lease(limit: Limit) -> None:
    """Takes the minute that a lease lasts."""
    command = [sys.executable, "-m", "tests.tasks.slot_taker", limit.source, "2", "600"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        eventually(lambda: limit.in_use() == 2, 30)
        process.kill()

    eventually(lambda: limit.in_use() == 0, 120)


async def test_a_server_that_refuses_ends_the_wait_of_every_table(
    limit: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*given: Any, **named: Any) -> Any:
        raise ConnectionError

    monkeypatch.setattr(PrefectClient, "increment_concurrency_slots_with_lease", broken)
    async with shared_slots(limit.source):
        ended = await asyncio.gather(*(load(limit.source) for _ in range(3)), return_exceptions=True)
    assert [type(problem) for problem in ended] == [ConcurrencySlotAcquisitionError] * 3


async def test_where_no_limit_exists_nothing_is_counted_and_the_run_says_so_once(
    prefect_server: str, requests: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with shared_slots("undeclared"):
        for _ in range(3):
            await load("undeclared")
    assert requests == ["increment"]
    assert caplog.text.count("do not exist") == 1
