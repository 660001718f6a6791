"""Resources of dlt sources, iterated without dlt's pipeline: no files, no destination, no state but the one passed in.

    reader = DltReader(source, resource, "hubspot.contacts")
    async with reader.opened(connection, state) as said:       state: what the last published load left, or None
        said = await reader.begin()                            now dlt has bound its cursors, and said all
        async for batch in reader.batches():                   batch.records: JSON · batch.frames: Arrow
            ...
        reader.state                                           to be published with the rows

dlt's calls block and its contexts belong to threads, so each reader has a thread of its own; futures, parallelized
resources and async generators run in pools that dlt makes within it. What is imported from dlt here is what
docs/decisions/0015 lists, and tests/kinds/dlt/test_reader.py proves of each.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import importlib
import importlib.util
import inspect
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from flows.kinds.dlt.declared import DltSource, Resource
from flows.kinds.dlt.failure import explain, not_installed
from flows.kinds.dlt.hints import Said, incremental_of, said_by
from flows.kinds.dlt.json import record_encoder
from flows.kinds.dlt.source import as_arrow, as_source, imported
from flows.values.connection import ApiConnection
from flows.values.errors import DeclarationError, SourceError

T = TypeVar("T")

# A batch is handed over at this size, or after this time if the source is slow: a thread switch per record would cost
# more than the record.
_BATCH_BYTES = 1_000_000
_BATCH_SECONDS = 1.0
# Set before dlt is imported: no telemetry, and only critical logs, because its logs quote records.
_QUIET = {"RUNTIME__DLTHUB_TELEMETRY": "false", "DO_NOT_TRACK": "1"}
_SILENT = {"RUNTIME__LOG_LEVEL": "CRITICAL"}


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that a resource yielded: records as JSON, or Arrow tables. `bytes` is their size."""

    records: Sequence[bytes] = ()
    frames: Sequence[Any] = ()
    bytes: int = 0


_END = object()


class DltReader:
    """One resource being read. `state` and `cursor_value` are valid once everything has been read.

    `limit`: reading ends after so many rows, and neither is.
    """

    def __init__(self, source: DltSource, resource: Resource, where: str) -> None:
        self.state: str | None = None
        self.cursor_value: str | None = None
        self.limit: int | None = None
        self._source = source
        self._resource = resource
        self._where = where
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="medallion-dlt")
        self._contexts = ExitStack()
        self._document: dict[str, Any] = {"sources": {}}
        self._handed: Mapping[str, str | None] = {}
        self._built: Any = None
        self._items: Iterator[Any] = iter(())
        self._encode: Callable[[Any], bytes] | None = None
        self._taken = 0

    @asynccontextmanager
    async def opened(self, connection: ApiConnection | None, state: str | None) -> AsyncIterator[Said]:
        """Call the source's function and find the resource. Nothing is read yet.

        Raises:
            MedallionError: the extra is not installed, the source cannot be built, or it has no such resource.
        """
        if importlib.util.find_spec("dlt") is None:
            raise not_installed(self._where)
        try:
            yield await self._call(functools.partial(self._open, connection, state))
        finally:
            # In the thread itself, after work that may still be running there; without waiting for it.
            self._thread.submit(self._close)
            self._thread.shutdown(wait=False)

    def begin_anew(self) -> None:
        """Discard the state that was passed in: everything is read."""
        self._document["sources"] = {}

    async def begin(self) -> Said:
        """Start the resource and read its hints again: only now is the cursor of its function known.

        Raises:
            MedallionError: the source failed.
        """
        return await self._call(self._begin)

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """All batches of the resource, in order.

        Raises:
            MedallionError: the source failed, or yielded what cannot be landed.
        """
        while (batch := await self._call(self._take)) is not None:
            yield batch
        if self.limit is None:
            await self._call(self._keep_state)

    async def count(self) -> int | None:
        """The source's own number of records; None if the resource declares no count."""
        if self._resource.count is None:
            return None
        function = await self._call(functools.partial(imported, self._resource.count, "count", self._where))
        answer = await self._call(functools.partial(function, **self._arguments(function)))
        if not isinstance(answer, int) or isinstance(answer, bool) or answer < 0:
            raise SourceError(
                f"{self._resource.count} returned {type(answer).__name__}, not a number of records",
                where=self._where,
                fix="return an integer of at least 0",
            )
        return answer

    async def _call(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, copy_context().run, work)
        except Exception as problem:
            error = explain(problem, self._where)
        raise error  # outside of the handler, so that it has no inner exception, whose text may quote a record

    # -- in the reader's own thread

    def _open(self, connection: ApiConnection | None, state: str | None) -> Said:
        os.environ.update(_QUIET)
        for name, value in _SILENT.items():
            os.environ.setdefault(name, value)
        dlt = importlib.import_module("dlt")
        container, contexts = _container(), _dlt("common.pipeline")
        typed_json = _dlt("common.json").json
        self._handed = {"url": connection.base_url, "key": connection.key} if connection is not None else {}
        self._document["sources"] = typed_json.typed_loads(state) if state else {}
        # dlt lets a source's function read the state, and discards what it writes there.
        seen = contexts.StateInjectableContext(state=copy.deepcopy(self._document))
        function = imported(self._source.build, "build", self._where)
        with container.injectable_context(seen):
            built = function(**self._arguments(function))
            self._built = self._only_ours(as_source(dlt, built, self._source, self._where))
        self._encode = record_encoder()
        return said_by(self._built.resources[self._resource.dlt_name])

    def _arguments(self, function: Any) -> Mapping[str, str | None]:
        """Those of `url` and `key` that the function accepts, if the source declares a connection."""
        taken = inspect.signature(function).parameters if self._handed else {}
        return {name: value for name, value in self._handed.items() if name in taken}

    def _only_ours(self, built: Any) -> Any:
        name = self._resource.dlt_name
        if name not in built.resources:
            raise DeclarationError(
                f"the source has no resource {name!r}",
                where=self._where,
                fix=f"use one of {', '.join(sorted(built.resources))}; resource=… accepts any name",
            )
        return built.with_resources(name)

    def _begin(self) -> Said:
        """Set the contexts in which dlt's own extract step iterates, and start."""
        built, container = self._built, _container()
        decorators, specs = _dlt("extract.decorators"), _dlt("common.configuration.specs")
        section = specs.ConfigSectionContext(
            sections=("sources", built.section, built.name), source_state_key=built.name
        )
        for context in (
            container.injectable_context(_dlt("common.pipeline").StateInjectableContext(state=self._document)),
            container.injectable_context(decorators.SourceSchemaInjectableContext(built.schema)),
            container.injectable_context(decorators.SourceInjectableContext(built)),
            _dlt("common.configuration.resolve").inject_section(section),
        ):
            self._contexts.enter_context(context)
        pipes = _dlt("extract.pipe_iterator").PipeIterator.from_pipes(built.resources.selected_pipes)
        self._items = self._flat(self._contexts.enter_context(pipes))
        return said_by(built.resources[self._resource.dlt_name])

    def _flat(self, pipes: Iterator[Any]) -> Iterator[Any]:
        """One record or table at a time, from items that may be lists."""
        for piped in pipes:
            self._refuse_meta(piped.meta)
            yield from piped.item if isinstance(piped.item, list) else (piped.item,)

    def _take(self) -> Batch | None:
        """The next records or tables; None at the end."""
        assert self._encode is not None  # set when it was opened
        records: list[bytes] = []
        frames: list[Any] = []
        size, until = 0, time.monotonic() + _BATCH_SECONDS
        while self._left != 0 and (item := next(self._items, _END)) is not _END:
            if item is None:
                continue
            if (frame := as_arrow(item)) is not None:
                frames.append(frame if self._left is None else frame.slice(0, self._left))
                size += frame.nbytes
                self._taken += frames[-1].num_rows
            else:
                records.append(self._encode(item))
                size += len(records[-1])
                self._taken += 1
            if size >= _BATCH_BYTES or time.monotonic() >= until:
                break
        self._refuse_form(bool(records), bool(frames))
        return Batch(records, frames, size) if records or frames else None

    @property
    def _left(self) -> int | None:
        return None if self.limit is None else max(0, self.limit - self._taken)

    def _refuse_meta(self, meta: Any) -> None:
        """Metadata of an item: another table's name, or a file to be imported by a destination."""
        kind = type(meta).__name__
        if kind == "ImportFileMeta":
            what, move = "a file for dlt's own loader", "yield its records or Arrow tables instead"
        elif kind == "TableNameMeta" or getattr(meta, "create_table_variant", False):
            what, move = "records for a table of another name", "make it a separate resource, and declare that"
        else:
            return
        raise DeclarationError(f"the resource yields {what}", where=self._where, fix=move)

    def _refuse_form(self, records: bool, frames: bool) -> None:
        if frames and not self._resource.columns:
            raise DeclarationError(
                "the resource yields Arrow tables or data frames",
                where=self._where,
                fix="declare columns=True, so that raw has typed columns",
            )
        if records and self._resource.columns:
            raise DeclarationError(
                "the resource yields records, and columns=True needs types",
                where=self._where,
                fix="remove columns=True, so that each record is kept as JSON; or yield Arrow tables "
                '(sql_database: backend="pyarrow")',
            )

    def _keep_state(self) -> None:
        sources = self._document.get("sources", {})
        self.state = _dlt("common.json").json.typed_dumps(sources)
        incremental = incremental_of(self._built.resources[self._resource.dlt_name])
        if incremental is None or incremental.end_value is not None:
            return
        of_source = sources.get(self._built.name, {}).get("resources", {}).get(self._resource.dlt_name, {})
        value = of_source.get("incremental", {}).get(incremental.cursor_path, {}).get("last_value")
        if value is not None:
            self.cursor_value = value.isoformat() if hasattr(value, "isoformat") else str(value)

    def _close(self) -> None:
        self._items = iter(())
        with contextlib.suppress(Exception):  # the load has ended; an error while closing the source does not matter
            self._contexts.close()


def _dlt(module: str) -> Any:
    return importlib.import_module(f"dlt.{module}")


def _container() -> Any:
    return _dlt("common.configuration.container").Container()
