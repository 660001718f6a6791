"""Macros of the dbt project as SQL, without dbt: a process of it takes 5 s, and what they write is plain Jinja."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

MACROS = Path(__file__).parents[2] / "dbt_project/macros"


class _Returned(Exception):
    """What dbt's `return` hands back; it ends the macro."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.value: Any = value


class RefusedByMacro(Exception):
    """What a macro raises as an error of compilation."""


class _Exceptions:
    """dbt's `exceptions`, as far as macros use it."""

    def raise_compiler_error(self, message: str) -> None:
        raise RefusedByMacro(message)


class _Empty:
    """What a macro may ask of dbt's adapter."""

    def get_relation(self, **_named: object) -> None:
        """There is none."""


def _return(value: object) -> None:
    raise _Returned(value)


@cache
def macros() -> Mapping[str, Callable[..., Any]]:
    """Every macro, by name; those that ask dbt for more than `var` and `return` fail when called."""
    environment = jinja2.Environment(extensions=["jinja2.ext.do"], autoescape=False)  # noqa: S701 - this writes SQL
    written: dict[str, Any] = {}

    def named(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            try:
                return written[name](*arguments, **options)
            except _Returned as returned:
                return returned.value

        return call

    texts = [file.read_text() for file in MACROS.glob("*.sql")]
    calls = {name: named(name) for text in texts for name in re.findall(r"{%-? macro (\w+)", text)}
    environment.globals.update(calls, var=lambda _name, default=None: default, **{"return": _return})
    # A database that is empty: no relation is there.
    environment.globals.update(exceptions=_Exceptions(), adapter=_Empty(), target={"database": "warehouse"})
    for text in texts:
        module = environment.from_string(text).module
        written.update({name: macro for name, macro in vars(module).items() if name in calls})
    return calls


def write(macro: str, *arguments: object, **named: object) -> str:
    """The SQL that a macro writes: `write("standard_email", "email")`."""
    return str(macros()[macro](*arguments, **named))
