"""Writers whose transactions overlap, so that ids of a change table do not follow the order of commits."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Writers:
    """Each has a session of its own and at least `rounds` transactions of random changes.

    `open_session` gives something with `execute`, `commit` and `rollback`.
    """

    open_session: Callable[[], Any]
    rounds: int = 15
    writers: int = 9
    keys: int = 400
    failures: list[BaseException] = field(default_factory=list)
    #: They write until this is set.
    enough: threading.Event = field(default_factory=threading.Event)

    def start(self) -> Sequence[threading.Thread]:
        """Begin to write; the threads end by themselves."""
        threads = [threading.Thread(target=self._write, args=(number,)) for number in range(self.writers)]
        for thread in threads:
            thread.start()
        return threads

    def _write(self, seed: int) -> None:
        draw = random.Random(seed)
        try:
            session = self.open_session()
            number = 0
            while number < self.rounds or not self.enough.is_set():
                number += 1
                # Its own keys, in order: no deadlocks. What overlaps are transactions, and ids of the change table.
                own = [key for key in range(self.keys) if key % self.writers == seed]
                for key in sorted(draw.sample(own, 4)):
                    session.execute(
                        draw.choice(
                            [
                                f"delete from items where id = {key}",
                                f"update items set name = '{seed}.{number}' where id = {key}",
                                f"update items set name = '{seed}.{number}u' where id = {key}",
                            ]
                        )
                    )
                fresh = 100_000 * (seed + 1) + number
                session.execute(f"insert into items values ({fresh}, '{seed}.{number}')")
                if draw.random() < 0.2:
                    session.rollback()
                else:
                    session.commit()
            session.close()
        except BaseException as problem:
            self.failures.append(problem)
