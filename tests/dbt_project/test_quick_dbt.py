"""What dbt writes and says in processes that tests fork is what it writes and says in others."""

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from dbt.artifacts.schemas import base
from dbt_common.behavior_flags import BehaviorFlagRendered
from dbt_common.clients import system

from tests.dbt_project.quick_dbt import hurry, write_json


def test_what_is_written_is_the_same_to_the_letter(tmp_path: Path) -> None:
    data: dict[str, Any] = {
        "metadata": {"generated_at": datetime(2026, 3, 29, 1, 30, 0, 5), "on": date(2026, 3, 29)},
        "numbers": [0, -1.5, 1e300, float("nan"), Decimal("0.10"), None, True],
        "texts": ['ä\u2028"\\/', "", "\U0001f4be"],
        "nested": {3: [[], {}, ()]},
    }
    assert system.write_json(str(tmp_path / "dbt/manifest.json"), data)
    assert write_json(str(tmp_path / "ours/manifest.json"), data)
    assert (tmp_path / "ours/manifest.json").read_bytes() == (tmp_path / "dbt/manifest.json").read_bytes()


def test_a_flag_without_a_source_is_of_the_module_that_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # Both are put back: dbt in this process stays as it is.
    monkeypatch.setattr(BehaviorFlagRendered, "_default_source", BehaviorFlagRendered._default_source)
    monkeypatch.setattr(base, "write_json", system.write_json)
    hurry()
    flag = BehaviorFlagRendered({"name": "of_a_test", "default": False, "description": "a flag"}, {})
    assert flag._behavior_change_event.flag_source == __name__
