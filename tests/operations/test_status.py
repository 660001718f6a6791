"""`medallion status` says whether anybody watches."""

import pytest

from flows.cli.stack_tables import watch_words
from flows.state.overview import Overview, read_overview
from tests.conftest import TestDatabase
from tests.operations.alerting import desk
from tests.operations.watches import watching


def overview(*watches: dict[str, object]) -> Overview:
    return Overview([], [], [], [], [], watches=[*watches])


async def test_a_watch_that_looks_is_shown(warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    with watching(monkeypatch, warehouse.url("loader")) as it:
        await it.rounds()
    async with desk(warehouse) as it_is:
        found = await read_overview(it_is.connection)
    words = watch_words(found)
    assert "last alive" in words
    assert "on here" in words
    assert "yellow" not in words


def test_none_and_one_that_is_dead_are_warned_of() -> None:
    assert "no alerts are sent" in watch_words(overview())
    dead = watch_words(overview({"host": "a", "version": "0.1.0", "seconds": 200.0}))
    assert "no alerts are sent" in dead
    assert "3 min ago on a" in dead
    assert "nobody" not in watch_words(overview({"host": "a", "version": "0.1.0", "seconds": 20.0}))
