"""Random changes in random files, commits and failures: at rest, raw is what the source would be."""

import random
from typing import Any

import pytest

from flows.kinds.debezium import load as loading
from flows.values.errors import MedallionError
from tests.kinds.debezium.loading import Events, Line, event, item

HELD = "__debezium_unavailable_value"


class Source:
    """Two partitions, of even and of odd ids, and the rows that their events end in."""

    def __init__(self, chosen: random.Random) -> None:
        self.chosen = chosen
        self.rows: dict[int, Line] = {}
        self.lines: list[list[Line]] = [[], []]
        self._next = [0, 0]

    def send(self, op: str, number: int, row: Line | None = None, **changed: Any) -> None:
        partition = number % 2
        offset = self._next[partition]
        self._next[partition] += self.chosen.choice([1, 1, 1, 4])
        before = {"id": number} if row is None else None
        self.lines[partition].append(event(offset, op, row, before, partition=partition, **changed))

    def change(self) -> None:
        chosen, number = self.chosen, self.chosen.randint(0, 12)
        row = self.rows.get(number)
        if row is None:
            self.rows[number] = item(number, f"n{chosen.random()}", chosen.randint(0, 9), f"note {chosen.random()}")
            self.send("c", number, self.rows[number])
        elif chosen.random() < 0.5:
            held = chosen.random() < 0.6
            self.rows[number] = {
                **row,
                "amount": chosen.randint(0, 9),
                **({} if held else {"note": f"{chosen.random()}"}),
            }
            self.send("u", number, {**self.rows[number], "note": HELD if held else self.rows[number]["note"]})
        elif chosen.random() < 0.5 and (other := number + 2 * chosen.randint(1, 4)) not in self.rows:
            self.rows[other] = {**self.rows.pop(number), "id": other}
            self.send("d", number)
            self.send("tombstone", number)
            headers = {"__debezium.oldkey": {"id": number}} if chosen.random() < 0.9 else {}
            note = HELD if headers else self.rows[other]["note"]
            self.send("c", other, {**self.rows[other], "note": note}, headers=headers)
        else:
            del self.rows[number]
            self.send("d", number)
            self.send("tombstone", number)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_raw_is_the_source_at_rest(
    events: Events, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chosen = random.Random(seed)
    source, sent = Source(chosen), [0, 0]
    monkeypatch.setattr(loading, "CHANGES", 7)
    publish = loading._Loading.publish

    async def failing(self: loading._Loading, commit: loading._Commit) -> object:
        if chosen.random() < 0.1:
            raise ConnectionResetError
        return await publish(self, commit)

    for round_ in range(6):
        for _ in range(25):
            source.change()
        files = []
        for partition, lines in enumerate(source.lines):
            again = max(0, sent[partition] - chosen.randint(0, 20))
            parts = lines[again:]
            cut = chosen.randint(0, len(parts))
            files += [parts[:cut], parts[cut:]]
            sent[partition] = len(lines)
        chosen.shuffle(files)
        for number, lines in enumerate(files):
            events.put(f"{round_}-{number}.jsonl", lines)
        with monkeypatch.context() as patch:
            patch.setattr(loading._Loading, "publish", failing)
            try:
                await events.load()
                continue
            except MedallionError:
                pass
        await events.load()

        assert events.raw() == sorted(tuple(row.values()) for row in source.rows.values())
    await events.load()
    assert events.raw() == sorted(tuple(row.values()) for row in source.rows.values())
    assert events.quarantine() == []
