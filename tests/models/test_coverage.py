"""What may be joined has a tested key: two equal keys of a seed multiply each fact, and every total still agrees."""

from typing import Any

import pytest

from flows.models.coverage import Gap, gaps
from flows.models.manifest import Manifest


def manifest_of(kind: str, config: dict[str, Any]) -> Manifest:
    node = {"unique_id": "it", "name": "it", "resource_type": kind, "schema": "staging", "config": config}
    return Manifest({"nodes": {"it": node}, "sources": {}})


KEYED = [
    ("seed", {"indexes": [{"columns": ["code"], "unique": True}]}),
    ("snapshot", {"unique_key": "code", "pre-hook": [{"sql": "{{ prepare_snapshot() }}"}]}),
]


@pytest.mark.parametrize(("kind", "config"), KEYED)
def test_a_key_that_is_tested_is_no_gap(kind: str, config: dict[str, Any]) -> None:
    assert gaps(manifest_of(kind, config)) == []


@pytest.mark.parametrize(
    ("kind", "config", "fix"),
    [
        ("seed", {}, "a unique index of its key to its config (indexes)"),
        ("seed", {"indexes": [{"columns": ["code"]}]}, "a unique index of its key to its config (indexes)"),
        ("snapshot", {"unique_key": "code"}, "the pre-hook prepare_snapshot()"),
    ],
)
def test_a_seed_or_snapshot_without_a_tested_key_is_named(kind: str, config: dict[str, Any], fix: str) -> None:
    assert gaps(manifest_of(kind, config)) == [Gap("it", f"its key is not tested: add {fix}")]
