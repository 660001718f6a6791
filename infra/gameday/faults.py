"""All faults, and which of them are made when: a plan is drawn at random, and the same for the same seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from infra.gameday import faults_platform, faults_source
from infra.gameday.fault import Fault

FAULTS = (*faults_platform.FAULTS, *faults_source.FAULTS)


@dataclass(frozen=True)
class Planned:
    """A fault, and the second of the game at which it is made, unless an earlier one lasts longer."""

    fault: Fault
    second: float


def plan(count: int, minutes: float, seed: int, named: Sequence[str] = ()) -> list[Planned]:
    """So many faults in random order at random times; every kind once before one comes again.

    `named` are the only ones, if there are any. Raises KeyError for a name that is none.
    """
    known = {fault.name: fault for fault in FAULTS}
    chosen = [known[name] for name in named] or list(FAULTS)
    chance = random.Random(seed)  # noqa: S311 # nosec B311 - a plan is to be repeatable, not a secret
    drawn: list[Fault] = []
    while len(drawn) < count:
        drawn += chance.sample(chosen, min(len(chosen), count - len(drawn)))
    slot = minutes * 60 / max(count, 1)
    return [Planned(fault, round((number + chance.random() / 3) * slot, 1)) for number, fault in enumerate(drawn)]
