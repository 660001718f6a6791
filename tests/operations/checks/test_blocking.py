"""A question that hangs in a thread is not asked again, and keeps nobody from ending."""

import asyncio
import threading

import pytest

from flows.operations.checks.blocking import Blocking


async def test_an_answer_and_an_error_come_through() -> None:
    asked = Blocking[int]()
    assert await asked.ask(lambda: 1) == 1
    with pytest.raises(ZeroDivisionError):
        await asked.ask(lambda: 1 // 0)
    assert await asked.ask(lambda: 2) == 2


async def test_a_thread_that_hangs_is_the_only_one() -> None:
    asked, free, started = Blocking[int](), threading.Event(), []

    def hang() -> int:
        started.append(True)
        free.wait(20)
        return 1

    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asked.ask(hang)
    assert len(started) == 1
    free.set()
    async with asyncio.timeout(5):
        while True:
            try:
                assert await asked.ask(lambda: 3) == 3
                break
            except TimeoutError:
                await asyncio.sleep(0.01)
