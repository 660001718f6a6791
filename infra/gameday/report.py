"""The report of a game: JSON to compare games by, and a page for people."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from infra.gameday.invariants import NAMES
from infra.gameday.outcome import Outcome


@dataclass
class Report:
    """A game that was played. `looks`: how often the reader looked for a partial load."""

    began: str
    seed: int
    seconds: int
    outcomes: list[Outcome]
    commits: int = 0
    loads: int = 0
    looks: int = 0

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong with any fault, and there was one."""
        return bool(self.outcomes) and all(outcome.passed for outcome in self.outcomes)

    def invariants(self) -> dict[str, bool]:
        """Which invariants held after each fault."""
        said = [problem for outcome in self.outcomes for problem in outcome.problems]
        return {name: not any(problem.startswith(f"{name}: ") for problem in said) for name in NAMES}

    def as_json(self) -> str:
        """Everything, for a program."""
        content: dict[str, Any] = {
            "version": 1,
            "began": self.began,
            "seed": self.seed,
            "seconds": self.seconds,
            "passed": self.passed,
            "commits_at_source": self.commits,
            "loads": self.loads,
            "looks_of_reader": self.looks,
            "invariants": self.invariants(),
            "faults": [{**asdict(outcome), "passed": outcome.passed} for outcome in self.outcomes],
        }
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    def as_markdown(self) -> str:
        """A page for people."""
        result = "Passed" if self.passed else "Failed"
        lines = [
            f"# Game day of {self.began}",
            "",
            f"**{result}**: {len(self.outcomes)} faults in {self.seconds // 60} minutes, "
            f"seed {self.seed}. {self.commits} transactions at the source, {self.loads} loads published, "
            f"{self.looks} looks for a partial load.",
            "",
            "| fault | severity | detected after | rounds of the watch | recovered after | alerts | result |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for outcome in self.outcomes:
            alerts = ", ".join(outcome.alerts) or "-"
            came = "; ".join(outcome.problems) or "passed"
            lines.append(
                f"| {outcome.name} | {outcome.severity or '-'} | {seconds(outcome.detected_seconds)} | "
                f"{'-' if outcome.detected_rounds is None else outcome.detected_rounds} | "
                f"{seconds(outcome.recovered_seconds)} | {_cell(alerts)} | {_cell(came)} |"
            )
        detected = [each.detected_seconds for each in self.outcomes if each.detected_seconds is not None]
        recovered = [each.recovered_seconds for each in self.outcomes if each.recovered_seconds is not None]
        if detected and recovered:
            lines += [
                "",
                f"Time to detect: median {seconds(median(detected))}, longest {seconds(max(detected))}. "
                f"Time to recover: median {seconds(median(recovered))}, longest {seconds(max(recovered))}.",
            ]
        lines += ["", "| invariant | | held |", "| --- | --- | --- |"]
        lines += [
            f"| {name} | {NAMES[name]} | {'yes' if held else '**no**'} |" for name, held in self.invariants().items()
        ]
        return "\n".join(lines) + "\n"

    def save(self, page: Path) -> Path:
        """Write the page, and beside it the JSON, whose path is returned."""
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(self.as_markdown(), encoding="utf-8")
        facts = page.with_suffix(".json")
        facts.write_text(self.as_json(), encoding="utf-8")
        return facts


def seconds(value: float | None) -> str:
    """A time for people: `12 s`, or a dash."""
    return "-" if value is None else f"{value:.0f} s"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
