"""The JSON file of a service account, as Google's console exports it."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from flows.kinds.api.declared.api import Api
from flows.kinds.api.http.failure import key_variable
from flows.values.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """Who it is, and its key."""

    email: str
    private_key: str = field(repr=False)
    key_id: str = ""


class _File(msgspec.Struct):
    client_email: str
    private_key: str
    private_key_id: str = ""


def service_account(api: Api, key: str) -> ServiceAccount | None:
    """The account of a file's text; None if the key is something else.

    Raises:
        ConfigurationError: it is JSON, and not such a file.
    """
    if not key.lstrip().startswith("{"):
        return None
    try:
        found: _File | None = msgspec.json.decode(key, type=_File)
    except msgspec.MsgspecError:
        found = None
    if found is not None:
        return ServiceAccount(found.client_email, found.private_key, found.private_key_id)
    raise ConfigurationError(
        "the key is JSON, and not the file of a service account: it needs client_email and private_key",
        where=f"source {api.name}",
        fix=f"set {key_variable(api)} to the file as exported, or to the private key in PEM",
    )
