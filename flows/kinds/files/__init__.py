"""File drops."""

from flows.kinds.files.declared import Files
from flows.kinds.files.formats import Csv, Excel, FixedWidth, JsonLines, Parquet
from flows.kinds.files.ready import Manifest, Marker, Settled
from flows.kinds.files.release import Archive, Delete, Leave
from flows.kinds.files.table import FileTable

__all__ = [
    "Archive",
    "Csv",
    "Delete",
    "Excel",
    "FileTable",
    "Files",
    "FixedWidth",
    "JsonLines",
    "Leave",
    "Manifest",
    "Marker",
    "Parquet",
    "Settled",
]
