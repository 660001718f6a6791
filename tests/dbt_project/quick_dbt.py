"""dbt in processes that tests fork, quicker in two things that it does with each command and that no test is about.

What it writes and says is the same to the letter. Commands that are started as people start them have dbt as it is.
"""

import json
import sys
from pathlib import Path
from typing import Any

import dbt.artifacts.schemas.base
import dbt_common.behavior_flags
from dbt_common.utils.encoding import JSONEncoder


def hurry() -> None:
    """A command for one test of dbt takes 0.7 s of a core instead of 1.2, a build 4.4 instead of 5.3."""
    dbt.artifacts.schemas.base.write_json = write_json  # type: ignore[attr-defined]
    flag = dbt_common.behavior_flags.BehaviorFlagRendered
    flag._default_source = staticmethod(_calling_module)  # type: ignore[method-assign]


def write_json(path: str, data: dict[str, Any]) -> bool:
    """As dbt does, but put together at once, in C: `json.dump` puts 400,000 pieces of a manifest together in Python."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(data, cls=JSONEncoder), encoding="utf-8")
    return True


def _calling_module() -> str:
    """The nearest caller that is not the flags' own module; dbt reads the source of every module on the way there."""
    frame = sys._getframe()
    passed = {__name__, dbt_common.behavior_flags.__name__}
    while (before := frame.f_back) is not None:
        frame = before
        if (name := frame.f_globals.get("__name__", "")) not in passed:
            return str(name)
    return "Unknown"
