"""File drops."""

from flows.kinds.files.declared import Files, FileTable
from flows.kinds.files.formats import Csv
from flows.kinds.files.ready import Manifest, Marker, Settled

__all__ = ["Csv", "FileTable", "Files", "Manifest", "Marker", "Settled"]
