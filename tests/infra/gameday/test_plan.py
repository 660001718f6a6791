"""The plan of a game day: random, and the same for the same seed."""

import re
from pathlib import Path

from infra.gameday.faults import FAULTS, plan

PAGE = Path(__file__).parents[3] / "docs/gameday.md"


def test_a_seed_repeats_its_plan_and_another_one_does_not() -> None:
    assert plan(20, 60, 7) == plan(20, 60, 7)
    assert plan(20, 60, 7) != plan(20, 60, 8)


def test_every_fault_comes_once_before_one_comes_again() -> None:
    drawn = [each.fault.name for each in plan(len(FAULTS) + 3, 60, 1)]
    assert sorted(drawn[: len(FAULTS)]) == sorted(fault.name for fault in FAULTS)
    assert len(set(drawn[len(FAULTS) :])) == 3


def test_faults_are_spread_over_the_minutes_in_their_order() -> None:
    seconds = [each.second for each in plan(20, 60, 3)]
    assert seconds == sorted(seconds)
    assert [int(second // 180) for second in seconds] == list(range(20)), "one in each twentieth of the hour"


def test_each_fault_says_what_it_raises_or_that_it_is_survived_without_a_word() -> None:
    for fault in FAULTS:
        assert bool(fault.must or fault.by_ping) != bool(fault.seconds), fault.name
        assert bool(fault.severity) == bool(fault.must or fault.by_ping), fault.name
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 20


def test_the_page_has_every_fault_and_what_must_be_reported_of_it() -> None:
    rows = {
        name.strip(): reported
        for name, _, reported in re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
    }
    assert {fault.name for fault in FAULTS} <= set(rows)
    for fault in FAULTS:
        named = [f"`{pattern.split(' game')[0].split(' *')[0].split(' work pool')[0]}`" for pattern in fault.must]
        assert all(name in rows[fault.name] for name in named), fault.name
        assert not fault.must or str(fault.severity) in rows[fault.name], fault.name
