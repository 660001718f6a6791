"""File drops."""

from flows.kinds.files.declared import Files, FileTable
from flows.kinds.files.formats import Csv, FixedWidth, JsonLines, Parquet
from flows.kinds.files.ready import Manifest, Marker, Settled

__all__ = ["Csv", "FileTable", "Files", "FixedWidth", "JsonLines", "Manifest", "Marker", "Parquet", "Settled"]
