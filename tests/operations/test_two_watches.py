"""Two watches of one warehouse, by mistake or on purpose: one reports, and the other takes over when that is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial

import pytest

from flows.operations.alerts import Condition
from flows.operations.checks.check import Round
from tests.conftest import TestDatabase
from tests.operations.alerting import condition
from tests.operations.watches import Watching, check, watching
from tests.publish.two_ends import run_sql

SETTLE = timedelta(seconds=30)
FULL = condition("disk", "disk full soon", "critical")


def _see(found: list[Condition], _: Round) -> list[Condition]:
    return found


@contextmanager
def two(monkeypatch: pytest.MonkeyPatch, url: str, hosts: tuple[str, str]) -> Iterator[tuple[Watching, Watching]]:
    """The first sees a full disk, and the second does not; both send to the receiver of the second."""
    with ExitStack() as stack:
        made = []
        for host, found in zip(hosts, ([FULL], []), strict=True):
            looks = check("disk", partial(_see, found), "warehouse")
            it = stack.enter_context(watching(monkeypatch, url, [looks], settle=SETTLE))
            it.watch.host = host
            made.append(it)
        made[1].hands.pass_by(timedelta(seconds=5))
        yield made[0], made[1]


def pass_time(url: str) -> None:
    """Ten seconds, for the clock of the warehouse."""
    run_sql(url, "update ops.alert_transitions set happened_at = happened_at - '10 s'::interval returning 1")


@pytest.mark.parametrize("hosts", [("a", "b"), ("b", "a"), ("a", "a")])
async def test_what_one_sees_and_the_other_does_not_is_sent_once(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch, hosts: tuple[str, str]
) -> None:
    url = warehouse.url("loader")
    with two(monkeypatch, url, hosts) as (first, second):
        for _ in range(9):
            await first.rounds()
            await second.rounds()
            pass_time(url)
        assert first.told + second.told == ["opened disk full soon disk"]
        assert run_sql(url, "select count(*) from ops.alerts where resolved_at is null") == [(1,)]


async def test_one_that_begins_later_resolves_nothing_that_the_other_found(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = warehouse.url("loader")
    with two(monkeypatch, url, ("a", "b")) as (first, second):
        for _ in range(6):
            await first.rounds()
            pass_time(url)
        assert first.told + second.told == ["opened disk full soon disk"]
        for _ in range(6):
            await second.rounds()
            await first.rounds()
            pass_time(url)
        assert first.told + second.told == ["opened disk full soon disk"]


async def test_the_second_takes_over_when_the_first_is_gone(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = warehouse.url("loader")
    with two(monkeypatch, url, ("a", "b")) as (first, second):
        for _ in range(6):
            await first.rounds()
            await second.rounds()
            pass_time(url)
        await second.rounds(4)
        assert second.told == ["opened disk full soon disk"]
        await second.rounds(4)  # a minute later: it does not see the disk
        assert second.told == ["opened disk full soon disk", "resolved disk full soon disk"]


async def test_a_former_process_of_this_machine_is_no_other(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = warehouse.url("loader")
    with two(monkeypatch, url, ("a", "a")) as (first, second):
        await first.rounds(2)
        assert (await second.rounds(2)).good
        assert run_sql(url, "select rounds from ops.watches") == [(2,)]
