"""The meter against a clock."""

import subprocess
import sys
import time

import pytest

from flows.observe.metrics import Meter, measure


def test_a_step_that_fails_is_measured_all_the_same() -> None:
    with pytest.raises(RuntimeError), measure() as meter:  # noqa: PT012 - the sleep is what is measured
        time.sleep(0.02)
        raise RuntimeError
    assert 0.02 <= meter.seconds < 2
    assert meter.peak_memory_bytes > 10_000_000


def test_waiting_costs_time_and_no_processor() -> None:
    with measure() as waiting:
        time.sleep(0.2)
    with measure() as working:
        until = time.process_time() + 0.2
        while time.process_time() < until:
            sum(range(1000))
    assert waiting.cpu_seconds < 0.1
    assert working.cpu_seconds >= 0.19


def test_the_rate_is_rows_over_seconds_and_never_divides_by_zero() -> None:
    assert Meter(rows=100, seconds=4).rows_per_second == 25
    assert Meter(rows=100).rows_per_second == 0
    assert Meter(rows=100, seconds=4).as_fields()["rows_per_second"] == 25


def test_the_memory_of_whoever_started_a_process_does_not_count_as_its_own() -> None:
    """A worker with much in memory starts flow runs: they would look as large as it is, and grow by nothing."""
    held = bytearray(300_000_000)
    ask = "from flows.observe.metrics import peak_memory_bytes; print(peak_memory_bytes())"
    told = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert int(told.stdout) < len(held) / 2
