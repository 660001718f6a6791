"""The place that a connection URL names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from flows.access.addresses import SourceAddress
from flows.kinds.files.bucket import Bucket
from flows.kinds.files.filesystem import FileSystem
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
    if scheme == "s3":
        parts = urlsplit(url)
        keys = (address.user, address.key) if address.user and address.key else None
        return Bucket(parts.netloc, unquote(parts.path), keys, skip)
    if scheme not in ("", "file"):
        named = {"username": address.user, "password": address.key} if address.user else {}
        return FileSystem(url, where, {name: value for name, value in named.items() if value}, skip)
    path = unquote(urlsplit(url).path) if scheme else url
    if not path.startswith("/"):
        raise ConfigurationError(
            "the connection URL is no absolute path of a folder", where=where, fix="write one, such as /srv/drop"
        )
    return LocalFolder(Path(path), skip)
