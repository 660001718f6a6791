"""Bodies other than JSON pages: documents on disk, unpacked and split into records piece by piece."""
