"""What models promise, in `meta` of their properties files: who owns them, and how fresh they are.

models:
  - name: agg_daily_sales
    config:
      meta:
        owner: sales
        built_within: 26 h
        expected_by: {cron: "30 7 * * 1-5", zone: Europe/Berlin, holidays: berlin}
        critical: true
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from flows.declare.deadline import Calendar, Deadline
from flows.declare.freshness import Freshness, limit
from flows.values.errors import DeclarationError

_DEADLINE = frozenset({"cron", "zone", "holidays", "within"})
_PROMISES = ("built_within", "expected_by", "critical")


@dataclass(frozen=True, slots=True)
class ModelPromise:
    """What a model promises, and who answers for it."""

    owner: str | None = None
    built_within: timedelta | None = None
    expected_by: Deadline | None = None
    critical: bool = False


def promise_of(meta: Mapping[str, Any], calendars: Sequence[Calendar], where: str) -> ModelPromise | None:
    """The promise in a model's meta; None if there is none.

    Raises:
        DeclarationError: it cannot be read, or names an unknown calendar.
    """
    if not any(meta.get(name) is not None for name in _PROMISES):
        return None
    try:
        built, critical = meta.get("built_within"), meta.get("critical", False)
        if not isinstance(critical, bool):
            raise DeclarationError(f"critical is {critical!r}", where="meta", fix="write true or false")
        declared = Freshness(
            built_within=built, expected_by=_deadline(meta.get("expected_by"), calendars), critical=critical
        )
    except DeclarationError as problem:
        raise DeclarationError(problem.what, where=where, fix=problem.fix) from None
    owner = meta.get("owner")
    return ModelPromise(
        str(owner) if owner is not None else None,
        limit(declared.built_within),
        declared.expected_by,
        declared.critical,
    )


def _deadline(declared: Any, calendars: Sequence[Calendar]) -> Deadline | None:
    if declared is None:
        return None
    if not isinstance(declared, Mapping) or not isinstance(declared.get("cron"), str) or set(declared) - _DEADLINE:
        raise DeclarationError(
            "expected_by is not a deadline",
            where="meta",
            fix='write {cron: "0 7 * * 1-5", zone: Europe/Berlin}, and holidays and within if needed',
        )
    named = declared.get("holidays")
    calendar = next((one for one in calendars if one.name == named), None)
    if named is not None and calendar is None:
        raise DeclarationError(
            f"there is no calendar {named!r}",
            where="meta",
            fix=f"use one of flows/sources/calendars.py: {', '.join(one.name for one in calendars) or 'none yet'}",
        )
    zone, within = str(declared.get("zone", "UTC")), str(declared.get("within", "12 h"))
    return Deadline(declared["cron"], zone, calendar, within)


def refuse_unreadable_promises(models: Path, calendars: Sequence[Calendar]) -> None:
    """Read the promises in all properties files below this folder.

    Raises:
        DeclarationError: one cannot be read.
    """
    for path in sorted(models.rglob("*.yml")):
        for name, meta in _metas(yaml.safe_load(path.read_text(encoding="utf-8"))):
            promise_of(meta, calendars, f"{path.relative_to(models)}: {name}")


def _metas(properties: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for model in (properties.get("models") if isinstance(properties, dict) else None) or []:
        for entry in [model, *(model.get("versions") or [])]:
            meta = {**(entry.get("meta") or {}), **((entry.get("config") or {}).get("meta") or {})}
            yield model["name"], meta
