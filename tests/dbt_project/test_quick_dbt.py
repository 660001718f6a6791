"""What dbt writes and says in processes that tests fork is what it writes and says in others."""

import io
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from dbt.artifacts.schemas import base
from dbt_common.behavior_flags import BehaviorFlagRendered
from dbt_common.clients import system
from dbt_common.clients.jinja import MacroFuzzEnvironment, get_environment
from dbt_common.events.base_types import EventLevel
from dbt_common.events.event_manager import EventManager
from dbt_common.events.logger import LoggerConfig
from dbt_common.events.types import Note

from tests.conftest import HOME_VARIABLE
from tests.dbt_project import quick_dbt
from tests.dbt_project.quick_dbt import compile_once, fire_what_is_heard, hurrying, write_json


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


@pytest.fixture
def hurried() -> Iterator[None]:
    with hurrying():
        yield


def test_afterwards_dbt_in_this_process_is_as_it_was() -> None:
    def parts() -> list[object]:
        return [vars(base)["write_json"], BehaviorFlagRendered._default_source, MacroFuzzEnvironment.compile,
                EventManager.fire_event]  # fmt: skip

    before = parts()  # as dbt has them, or of a build that lasts as long as this process
    with hurrying():
        assert parts() == [write_json, quick_dbt._calling_module, compile_once, fire_what_is_heard]
    assert parts() == before


def test_a_flag_without_a_source_is_of_the_module_that_made_it(hurried: None) -> None:
    flag = BehaviorFlagRendered({"name": "of_a_test", "default": False, "description": "a flag"}, {})
    assert flag._behavior_change_event.flag_source == __name__


def test_a_template_that_was_compiled_before_is_not_compiled_again_and_renders_the_same(
    hurried: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    template = "{% set n = 21 %}{{ n * 2 }}{{ nothing }} {{ ' a ' | trim }}"
    by_dbt = quick_dbt._compile(get_environment(), template)
    assert compile_once(get_environment(), template) == by_dbt
    with monkeypatch.context() as patch:
        patch.setattr(quick_dbt, "_compile", None)
        assert get_environment().from_string(template).render({}) == "42 a"
        with pytest.raises(TypeError):  # nobody has compiled that
            get_environment().from_string(template + "!")
        with pytest.raises(TypeError):  # nor this one for values of Python's own types
            get_environment(native=True).from_string(template)


@pytest.mark.parametrize(("level", "said"), [(EventLevel.INFO, "loud\n"), (EventLevel.DEBUG, "quiet\nloud\n")])
def test_what_a_log_takes_is_said_and_nothing_else(hurried: None, level: EventLevel, said: str) -> None:
    output = io.StringIO()
    manager = EventManager()
    manager.add_logger(LoggerConfig(name="of a test", level=level, output_stream=output))
    for message, own in (("quiet", EventLevel.DEBUG), ("loud", EventLevel.INFO)):
        fire_what_is_heard(manager, Note(msg=message), level=own)
    assert "".join(f"{line.split()[-1]}\n" for line in output.getvalue().splitlines()) == said


def test_who_listens_hears_every_event(hurried: None) -> None:
    """Prefect does: it tells of each node by what dbt says of it."""
    heard: list[Any] = []
    manager = EventManager()
    manager.add_callback(heard.append)
    manager.fire_event(Note(msg="quiet"), level=EventLevel.DEBUG)
    assert [event.info.msg for event in heard] == ["quiet"]
