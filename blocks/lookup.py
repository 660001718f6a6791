"""Blocks as plain values, for code without Prefect."""

from collections.abc import Mapping
from functools import cache

from prefect.blocks.core import Block
from pydantic import SecretStr

from blocks.server import require_server
from blocks.types import AlertChannel, SourceApi, SourceDatabase, Warehouse


def find(name: str) -> Mapping[str, str | None] | None:
    """The document of that name, or None if it does not exist.

    `warehouse`       {"loader": url, "transformer": url, "reader": url or None}
    `source-<name>`   {"url": url} for a database; for an API {"url": base URL, "key": …, "user": …, "token": …,
                      "certificate": …}, each text or None
    `alerts`, `alerts-<name>`   {"webhook": the channel's address, "form": its format}

    Callable from a running event loop too: it never awaits.

    Raises:
        ConfigurationError: the Prefect API does not respond, or refuses the credentials.
    """
    _require_server_once()
    kinds: tuple[type[Block], ...] = (SourceDatabase, SourceApi)
    if name == "warehouse":
        kinds = (Warehouse,)
    elif name.partition("-")[0] == "alerts":
        kinds = (AlertChannel,)
    for kind in kinds:
        block = stored(kind, name)
        if block is not None:
            return _plain(block)
    return None


@cache
def _require_server_once() -> None:
    # Prefect raises the same error for a missing block and for a response that is not from Prefect.
    require_server()


def document_name(name: str) -> str:
    """The name as Prefect allows it: a source `web_shop` is the document `source-web-shop`."""
    return name.replace("_", "-")


def stored(kind: type[Block], name: str) -> Block | None:
    """The document of that kind and name, or None if it does not exist, or the kind is unknown to the server."""
    try:
        block = kind.load(document_name(name), _sync=True)  # type: ignore[call-arg]  # added by Prefect's dispatcher
    except ValueError:  # Prefect's error for both
        return None
    if not isinstance(block, Block):
        raise TypeError(f"Prefect returned {type(block).__name__} for the block {name}")
    return block


def _plain(block: Block) -> Mapping[str, str | None]:
    if isinstance(block, Warehouse):
        return {
            "loader": block.loader.get_secret_value(),
            "transformer": block.transformer.get_secret_value(),
            "reader": _open(block.reader),
        }
    if isinstance(block, AlertChannel):
        return {"webhook": block.webhook.get_secret_value(), "form": block.form}
    if isinstance(block, SourceApi):
        secrets = {name: _open(getattr(block, name)) for name in ("key", "user", "token", "certificate")}
        return {"url": block.base_url, **secrets}
    if isinstance(block, SourceDatabase):
        return {"url": block.url.get_secret_value()}
    raise TypeError(f"{type(block).__name__} is not a block of this platform")


def _open(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
