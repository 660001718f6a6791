"""Hashes and masks computed between the source and the landing table, because not every engine can hash with a key.

Only the values of masked columns become Python objects: 20,000 at a time, some 2 µs each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from flows.access.mask_key import mask_key
from flows.declare.mask import Hashed, Mask
from flows.kinds.databases.types import TypedColumn

_Way = Callable[[str], str]


def ways(columns: Sequence[TypedColumn]) -> list[_Way | None]:
    """For each column, what makes the text to load of a value's text; None if it is loaded as it is.

    Raises:
        ConfigurationError: the key is not configured.
    """
    return [None if column.mask is None else _way(column.mask) for column in columns]


def _way(mask: Mask) -> _Way:
    return mask_key().hash if isinstance(mask, Hashed) else mask.of


def masked(batch: Any, made: Sequence[_Way | None]) -> Any:
    """A batch of texts, one column for each way."""
    if not any(made):
        return batch
    import pyarrow as pa

    arrays = list(batch.columns)
    for place, way in enumerate(made):
        if way is not None:
            arrays[place] = pa.array(_each(arrays[place].to_pylist(), way), pa.string())
    return pa.record_batch(arrays, names=batch.schema.names)


def _each(values: Sequence[Any], way: _Way) -> list[str | None]:
    return [None if value is None else way(str(value)) for value in values]


def completed(document: str, values: dict[str, Any], made: dict[str, _Way]) -> str:
    """The JSON text of a row without its masked columns, and with what is loaded instead of them."""
    if not made:
        return document
    row = json.loads(document)
    row |= {name: None if values[name] is None else way(str(values[name])) for name, way in made.items()}
    return json.dumps(row, ensure_ascii=False)
