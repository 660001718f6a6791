"""Macros of the dbt project as SQL, without dbt: a process of it takes 5 s, and what they write is plain Jinja."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

MACROS = Path(__file__).parents[2] / "dbt_project/macros"


class _Returned(Exception):
    """What dbt's `return` hands back; it ends the macro."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


def _return(value: Any) -> None:
    raise _Returned(value)


@cache
def macros() -> Mapping[str, Any]:
    """Every macro that needs nothing of dbt but `var` and `return`, by name."""
    environment = jinja2.Environment(extensions=["jinja2.ext.do"], autoescape=False)  # noqa: S701 - this writes SQL
    written: dict[str, Any] = {"var": lambda _name, default=None: default, "return": _return}
    environment.globals.update(written)
    for file in sorted(MACROS.glob("*.sql")):
        module = environment.from_string(file.read_text()).module
        for name, macro in vars(module).items():
            if isinstance(macro, jinja2.runtime.Macro):
                environment.globals[name] = written[name] = _handing_back(macro)
    return written


def _handing_back(macro: Any) -> Any:
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return macro(*arguments, **named)
        except _Returned as returned:
            return returned.value

    return call


def write(macro: str, *arguments: object, **named: object) -> str:
    """The SQL that a macro writes: `write("standard_email", "email")`."""
    return str(macros()[macro](*arguments, **named))
