"""The place that a connection URL names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from flows.access.addresses import SourceAddress
from flows.kinds.files.folder import LocalFolder
from flows.kinds.files.place import Place
from flows.values.errors import ConfigurationError


def place_of(address: SourceAddress, where: str, skip: str | None = None) -> Place:
    """The place of a connection URL; files below its folder `skip` are not listed.

    Raises:
        ConfigurationError: it names no folder.
    """
    url = address.url
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme not in ("", "file"):
        raise ConfigurationError(
            f"files cannot be read from {scheme}://",
            where=where,
            fix="write the path of a folder of this machine into the connection URL, such as /srv/drop",
        )
    path = unquote(urlsplit(url).path) if scheme else url
    if not path.startswith("/"):
        raise ConfigurationError(
            "the connection URL is no absolute path of a folder", where=where, fix="write one, such as /srv/drop"
        )
    return LocalFolder(Path(path), skip)
