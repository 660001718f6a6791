"""dbt in processes that tests fork, and in those of tests that build, quicker in what no test is about.

What it writes and says is the same to the letter. Commands that are started as people start them have dbt as it is.
"""

import hashlib
import json
import marshal
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

import dbt.artifacts.schemas.base
import dbt_common.behavior_flags
import jinja2
from dbt.tracking import track_behavior_change_warn
from dbt_common.clients.jinja import MacroFuzzEnvironment
from dbt_common.events.base_types import BaseEvent, EventLevel
from dbt_common.events.event_manager import EventManager
from dbt_common.utils.encoding import JSONEncoder

#: Levels of what is said to those who look for a fault in dbt.
_DETAILS = {EventLevel.DEBUG, EventLevel.TEST}

_compile: Any = MacroFuzzEnvironment.compile  # overloaded for what no caller here asks for
_fire_event = EventManager.fire_event


def hurry() -> None:
    """A command for one test of dbt takes 0.7 s of a core instead of 1.2.

    Of a build the first two take 0.9 s off, and the last two a third of what it took then, on a busy machine: 2 s.
    """
    dbt.artifacts.schemas.base.write_json = write_json  # type: ignore[attr-defined]
    flag = dbt_common.behavior_flags.BehaviorFlagRendered
    flag._default_source = staticmethod(_calling_module)  # type: ignore[method-assign]
    MacroFuzzEnvironment.compile = compile_once  # type: ignore[method-assign]
    EventManager.fire_event = fire_what_is_heard  # type: ignore[method-assign]


@contextmanager
def hurrying() -> Iterator[None]:
    """dbt in this process is in a hurry until the block ends."""
    changed = (
        (dbt.artifacts.schemas.base, "write_json"), (dbt_common.behavior_flags.BehaviorFlagRendered, "_default_source"),
        (MacroFuzzEnvironment, "compile"), (EventManager, "fire_event"),
    )  # fmt: skip
    before = [(owner, name, vars(owner).get(name)) for owner, name in changed]
    hurry()
    try:
        yield
    finally:
        for owner, name, was in before:
            delattr(owner, name) if was is None else setattr(owner, name, was)


def write_json(path: str, data: dict[str, Any]) -> bool:
    """As dbt does, but put together at once, in C: `json.dump` puts 400,000 pieces of a manifest together in Python."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(data, cls=JSONEncoder), encoding="utf-8")
    return True


def compile_once(
    self: jinja2.Environment,
    source: Any,
    name: str | None = None,
    filename: str | None = None,
    raw: bool = False,
    defer_init: bool = False,
) -> Any:
    """As Jinja does; but what another command of the run has compiled is read. A build compiles 460 templates."""
    folder = os.environ.get("MEDALLION_TEST_HOME")
    if folder is None or raw or not isinstance(source, str):
        return _compile(self, source, name, filename, raw, defer_init)
    # What a template becomes depends on nothing else: filters and undefined names are looked up when it runs.
    of_environment = [type(self).__qualname__, sorted(self.extensions), sorted(self.filters), sorted(self.tests)]
    told = repr([of_environment, name, filename, defer_init, source])
    kept = Path(folder) / "templates" / hashlib.sha256(told.encode()).hexdigest()
    try:
        found = marshal.loads(kept.read_bytes())  # noqa: S302 - written below, in a folder of this run's own
        if isinstance(found, CodeType):
            return found
    except (OSError, EOFError, ValueError, TypeError):
        pass
    made = _compile(self, source, name, filename, raw, defer_init)
    kept.parent.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as file:
        file.write(marshal.dumps(made))
    Path(file.name).rename(kept)  # whole, or not there
    return made


def fire_what_is_heard(
    self: EventManager,
    e: BaseEvent,
    level: EventLevel | None = None,
    node: Any = None,
    force_warn_or_error_handling: bool = False,
) -> None:
    """As dbt does; but of 3,500 events of a build, the 3,000 that no log takes are put into no words."""
    if (
        not force_warn_or_error_handling
        and (level or e.level_tag()) in _DETAILS
        and all(logger.level not in _DETAILS for logger in self.loggers)
        and all(callback is track_behavior_change_warn for callback in self.callbacks)
    ):
        return
    _fire_event(self, e, level, node, force_warn_or_error_handling)


def _calling_module() -> str:
    """The nearest caller that is not the flags' own module; dbt reads the source of every module on the way there."""
    frame = sys._getframe()
    passed = {__name__, dbt_common.behavior_flags.__name__}
    while (before := frame.f_back) is not None:
        frame = before
        if (name := frame.f_globals.get("__name__", "")) not in passed:
            return str(name)
    return "Unknown"
