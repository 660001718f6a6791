"""Arrow batches as CSV for COPY."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Rows per query for a driver that buffers the full result, and rows per Arrow batch.
CHUNK_ROWS = 20_000


def to_csv(batch: Any, constants: Sequence[str | None] = ()) -> bytes:
    """A batch of texts, followed by constants, as CSV in which null is empty and an empty text is `""`."""
    import pyarrow as pa
    from pyarrow import csv

    columns = list(batch.columns)
    for value in constants:
        columns.append(pa.repeat(pa.scalar(value, pa.string()), batch.num_rows))
    whole = pa.record_batch(columns, names=[f"c{place}" for place in range(len(columns))])
    sink = pa.BufferOutputStream()
    csv.write_csv(whole, sink, csv.WriteOptions(include_header=False, quoting_style="all_valid"))
    data: bytes = sink.getvalue().to_pybytes()
    return data
