"""Which contracts of a gate are to be verified: their text or table changed, they did not pass, or time has passed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from flows.models.selective.positions import Name, Position
from flows.models.selective.volatile import named_relations
from flows.state.model_builds import ModelBuild

# A contract is verified at least so often, also if nothing has changed.
_LONGEST = timedelta(days=1)
_FRESHNESS = "freshness"
_BUILT = frozenset({"staging", "snapshots", "silver", "silver_quarantine", "gold"})
_SQL = frozenset({"query", "expression", "filter"})
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_REFERENCE = "valid_reference_data"
_PER_HOUR = {"minute": 1 / 60, "hour": 1.0, "day": 24.0}


@dataclass(frozen=True, slots=True)
class Contract:
    """One contract file, and its dataset."""

    path: Path
    name: Name
    node_id: str
    text: str

    @property
    def dataset(self) -> str:
        """As in `ops.check_results`."""
        return ".".join(self.name)

    @property
    def reads_others(self) -> bool:
        """Whether its result depends on more tables than its own. How long ago a load was, `until` takes care of."""
        statements = list(_statements(_parsed(self.text)))
        schemas = {self.name[0], *_BUILT}
        named = {name for text in statements for name in named_relations(text, schemas)}
        return bool(named - {self.dataset, "ops.loads"}) or _REFERENCE in self.text

    @property
    def fingerprint(self) -> str:
        """Of its text."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:32]


def read_contract(path: Path, gate: str) -> Contract | None:
    """The contract of a file; None if it cannot be read, which verification then reports."""
    try:
        text = path.read_text(encoding="utf-8")
        schema, table = str(_parsed(text)["dataset"]).split("/")[2:]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return None
    return Contract(path, (schema, table), f"contract.{gate}.{schema}.{table}", text)


def holds(contract: Contract, built: ModelBuild | None, position: Position | None, now: datetime) -> bool:
    """Whether its last result is still that of the table as it is."""
    if built is None or not built.is_good or built.run_id is None or position is None or position.text is None:
        return False
    until = built.node.get("until")
    return (
        built.fingerprint == contract.fingerprint
        and built.inputs.get("table") == position.text
        and isinstance(until, str)
        and now < datetime.fromisoformat(until)
    )


def checked(
    contract: Contract, position: Position | None, results: Sequence[Mapping[str, Any]], run_id: int, now: datetime
) -> ModelBuild:
    """What to store of a contract that was verified now."""
    passed = bool(results) and not any(result["blocks"] for result in results)
    until = now + (timedelta(0) if contract.reads_others else min(_LONGEST, _fresh_for(contract, results)))
    return ModelBuild(
        project="",
        node={"until": until.astimezone(UTC).isoformat()},
        run_id=run_id,
        is_good=passed and position is not None and position.text is not None,
        fingerprint=contract.fingerprint,
        inputs={"table": (position.text if position is not None else None) or ""},
    )


def _fresh_for(contract: Contract, results: Sequence[Mapping[str, Any]]) -> timedelta:
    """How long until an age passes one of its limits."""
    limits = list(_limits(_parsed(contract.text)))
    if not limits:
        return _LONGEST
    ages = [
        result["measured"] for result in results if _FRESHNESS in result["check"] and result["measured"] is not None
    ]
    if not ages:
        return timedelta(0)
    left = [limit - max(ages) for limit in limits if limit > max(ages)]
    return timedelta(hours=min(left)) if left else _LONGEST


def _parsed(text: str) -> Any:
    """YAML as the parser in C reads it: thirty contracts take 0.03 s of a core, instead of 0.3."""
    loader = _LOADER(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _statements(content: Any) -> Iterable[str]:
    """The SQL of a contract."""
    if isinstance(content, list):
        for part in content:
            yield from _statements(part)
    elif isinstance(content, dict):
        for key, value in content.items():
            if key in _SQL and isinstance(value, str):
                yield value
            else:
                yield from _statements(value)


def _limits(content: Any) -> Iterable[float]:
    """The limits of ages in hours, wherever they are in a contract."""
    if isinstance(content, list):
        for part in content:
            yield from _limits(part)
    elif isinstance(content, dict):
        for key, value in content.items():
            if isinstance(value, dict) and (key == _FRESHNESS or value.get("qualifier") == _FRESHNESS):
                yield from _numbers(value.get("threshold") or {})
            else:
                yield from _limits(value)


def _numbers(threshold: Mapping[str, Any]) -> Iterable[float]:
    per_hour = _PER_HOUR.get(str(threshold.get("unit", "hour")), 0.0)
    for value in threshold.values():
        if isinstance(value, dict):
            yield from _numbers({"unit": threshold.get("unit", "hour"), **value})
        elif isinstance(value, int | float):
            yield value * per_hour
