"""dbt's command line, for a process forked from one that has imported it: saves 3 s of a core each time."""

import contextlib
from collections.abc import Iterator
from functools import cache

import dbt.adapters.postgres
import dbt.task.build
import dbt.task.test  # noqa: F401 - as the others: or every fork would import them
import dbt_common.clients.agate_helper  # noqa: F401
from dbt.cli.main import cli
from dbt_common.dataclass_schema import dbtClassMixin

from tests.dbt_project.quick_dbt import hurry

#: Where the classes are that dbt reads and writes with each command.
_READ = (
    "dbt.artifacts.resources.", "dbt.artifacts.schemas.run.", "dbt.contracts.files", "dbt.contracts.graph.manifest",
    "dbt.contracts.graph.nodes", "dbt.contracts.project", "dbt.task.test",
)  # fmt: skip


@cache
def ready() -> None:
    """Have what dbt compiles when it first reads or writes a class compiled before anything is forked.

    Each process would do so for itself: 1 s of a core of the 5 that a build takes.
    """
    for each in set(_below(dbtClassMixin)):
        if each.__module__.startswith(_READ):
            # They are compiled when they are called; what they are called with is nothing that they could read.
            with contextlib.suppress(Exception):
                each.from_dict({})
            with contextlib.suppress(Exception):
                object.__new__(each).to_dict()
            if each.__module__ == "dbt.contracts.project":
                each.json_schema()
    hurry()


def _below(parent: type[dbtClassMixin]) -> Iterator[type[dbtClassMixin]]:
    for each in parent.__subclasses__():
        yield each
        yield from _below(each)


def main() -> None:
    """Do what `dbt` does; ends the process by SystemExit, as it does."""
    cli(prog_name="dbt")
