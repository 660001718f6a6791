"""Adaptive chunk size: as much as fits the target duration of a chunk, within configured limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from flows.values.settings import Settings

# A chunk is at most twice, or half, the previous one: a short slowdown does not make the size oscillate.
_STEP = 2.0
# Throughput this far below the best seen means that the growth did not help.
_SLOWER = 0.7


@dataclass(slots=True)
class ChunkSize:
    """The target size in bytes, and the reason. `bytes_per_step` is the measured size of a grid step."""

    smallest: int
    largest: int
    seconds: float
    memory: int
    bytes_per_step: float
    aim: int = 0
    reason: str = "start"
    _best: float = field(default=0.0)
    _best_aim: int = field(default=0)

    @classmethod
    def within(cls, limits: Settings, total_bytes: int, steps: int) -> ChunkSize:
        """The start: four times the smallest, since a source's speed is not known yet."""
        smallest, largest = int(limits.chunk_min_mb * 1e6), int(limits.chunk_max_mb * 1e6)
        largest = max(smallest, largest)
        return cls(
            smallest,
            largest,
            limits.chunk_seconds,
            int(limits.chunk_memory_mb * 1e6),
            max(1.0, total_bytes / max(1, steps)),
            min(4 * smallest, largest),
        )

    @property
    def steps(self) -> int:
        """Grid steps of about the target size; at least one."""
        return max(1, int(self.aim / self.bytes_per_step))

    def learn(self, steps: int, received: int, seconds: float, memory: int) -> None:
        """Adapt to a finished chunk: its steps, bytes, duration, and growth of peak memory."""
        used = self.aim
        if received:
            self.bytes_per_step = max(1.0, (self.bytes_per_step + received / max(1, steps)) / 2)
        speed = received / seconds if seconds > 0 else 0.0
        if memory > self.memory:
            self._aim_at(self.aim / _STEP, "memory")
        elif self._best and speed < self._best * _SLOWER and self.aim > self._best_aim:
            self._aim_at(self._best_aim, "slower")
        elif seconds > 0:
            factor = min(_STEP, max(1 / _STEP, self.seconds / seconds))
            self._aim_at(self.aim * factor, "time")
        if speed > self._best:
            self._best, self._best_aim = speed, used

    def _aim_at(self, wanted: float, reason: str) -> None:
        aim = int(min(self.largest, max(self.smallest, wanted)))
        if aim == self.aim:
            reason = "limit" if wanted != aim else "steady"
        self.aim, self.reason = aim, reason
