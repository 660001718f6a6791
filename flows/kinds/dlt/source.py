"""The interface to users' code: the function that builds a source, its return value, and what resources yield."""

from __future__ import annotations

import importlib
from typing import Any

from flows.kinds.dlt.declared import DltSource
from flows.values.errors import ConfigurationError, DeclarationError


def imported(path: str, what: str, where: str) -> Any:
    """The function of an import path, `package.module:function`.

    Raises:
        ConfigurationError: it does not exist; `what` names it.
    """
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as problem:
        raise ConfigurationError(
            f"{what} names {path}, and module {problem.name} does not exist",
            where=where,
            fix="install it, or add it to PYTHONPATH, or correct the path in flows/sources",
        ) from None
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigurationError(
            f"{what} names {path}, and {module_name} has no function {name}",
            where=where,
            fix="correct the path in flows/sources",
        )
    return function


def as_source(dlt: Any, built: Any, declared: DltSource, where: str) -> Any:
    """The function's return value as a source: single resources are wrapped into one.

    Raises:
        DeclarationError: it returned something else.
    """
    if isinstance(built, dlt.sources.DltSource):
        return built
    resources = list(built) if isinstance(built, list | tuple) else [built]
    if not resources or not all(isinstance(one, dlt.sources.DltResource) for one in resources):
        raise DeclarationError(
            f"{declared.build} returned {type(built).__name__}",
            where=where,
            fix="return a dlt source, a resource, or a list of resources",
        )
    return dlt.source(lambda: resources, name=declared.name, section=resources[0].section)()


def as_arrow(item: Any) -> Any:
    """An Arrow table or record batch as a table; a pandas or polars frame too. None for anything else."""
    home = type(item).__module__.partition(".")[0]
    if home == "pyarrow":
        arrow = importlib.import_module("pyarrow")
        return arrow.Table.from_batches([item]) if isinstance(item, arrow.RecordBatch) else item
    if home == "pandas":
        return importlib.import_module("pyarrow").Table.from_pandas(item, preserve_index=False)
    if home == "polars":
        return item.to_arrow()
    return None
