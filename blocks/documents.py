"""`python -m blocks.documents`: block types, and the documents that the environment or the embedded stack can fill.

Documents are overwritten with what is configured now; those of which nothing is configured are left as they are.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prefect.blocks.core import Block
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import get_current_settings
from prefect.types import SecretDict
from pydantic import SecretStr

from blocks.lookup import document_name, stored
from blocks.types import TYPES, AlertChannel, SourceApi, SourceDatabase, Warehouse
from flows.access.addresses import DEMO_APIS, embedded_stack
from flows.kinds.api import Api
from flows.kinds.declared import Source
from flows.kinds.dlt import DltSource
from flows.sources import SOURCES
from flows.tasks.server import require_server
from flows.values.errors import ConfigurationError, MedallionError
from flows.values.settings import settings


@dataclass(frozen=True, slots=True)
class Registered:
    """A document of which something is configured, and what became of it."""

    name: str
    kind: str
    outcome: Literal["created", "updated", "unchanged"]


def register() -> list[Registered]:
    """Register types and documents at the Prefect API in force. Running it again changes nothing.

    Raises:
        ConfigurationError: there is no server that serves us, or the embedded stack's file cannot be read.
    """
    require_server()
    register_types()
    return [save(name, block) for name, block in configured()]


def register_types() -> None:
    """Make the types known that documents of ours are of. Running it again changes nothing."""
    kinds = TYPES
    if settings().lake_bucket:
        from blocks import aws  # imports prefect-aws, which takes two seconds

        kinds = (*TYPES, *aws.TYPES)
    for kind in kinds:
        _register_type(kind)


def configured() -> list[tuple[str, Block]]:
    """The documents of which something is configured here and now, by name.

    Raises:
        ConfigurationError: the embedded stack's file cannot be read.
    """
    found = [*documents(os.environ, _stack_here())]
    if settings().lake_bucket:
        from blocks import aws

        found += aws.lake_blocks(settings().lake_bucket)
    return found


def _register_type(kind: type[Block]) -> None:
    try:
        kind.register_type_and_schema(_sync=True)  # type: ignore[call-arg]  # added by Prefect's dispatcher
    except ObjectAlreadyExists:
        # Another command registers the same at this moment, and was there between our looking and our creating.
        kind.register_type_and_schema(_sync=True)  # type: ignore[call-arg]


def documents(environment: Mapping[str, str], stack: Mapping[str, Any]) -> Iterator[tuple[str, Block]]:
    """The documents that can be filled: the environment first, then the embedded stack, as `flows.access.addresses` does."""
    urls = stack.get("urls") or {}
    loader = environment.get("MEDALLION_WAREHOUSE_URL") or urls.get("warehouse_loader")
    if loader:
        embedded = "MEDALLION_WAREHOUSE_URL" not in environment
        transformer = environment.get("MEDALLION_WAREHOUSE_TRANSFORMER_URL")
        # The roles of two different warehouses are never mixed.
        transformer = transformer or (urls.get("warehouse_transformer") if embedded else None) or loader
        reader = urls.get("warehouse_reader") if embedded else None
        yield (
            "warehouse",
            Warehouse(
                loader=SecretStr(loader),
                transformer=SecretStr(transformer),
                reader=SecretStr(reader) if reader else None,
            ),
        )
    for source in SOURCES:
        block = _source_block(source, environment, stack)
        if block is not None:
            yield f"source-{source.connection}", block
    if webhook := environment.get("MEDALLION_ALERT_WEBHOOK_URL"):
        yield "alerts", AlertChannel(webhook=SecretStr(webhook))


def _source_block(source: Source, environment: Mapping[str, str], stack: Mapping[str, Any]) -> Block | None:
    if source.connection is None:
        return None  # what a dlt source needs stands where dlt looks for it
    prefix = f"MEDALLION_SOURCE_{source.connection.upper()}"
    url, key = environment.get(f"{prefix}_URL"), environment.get(f"{prefix}_KEY")
    if isinstance(source, Api):
        commerce = stack.get("commerce") or {}
        if url is None and source.connection in DEMO_APIS:
            url, key = commerce.get("url"), key or commerce.get("api_key")
        user = environment.get(f"{prefix}_USER")
        secrets = {"key": SecretStr(key) if key else None, "user": SecretStr(user) if user else None}
        return SourceApi(base_url=url, **secrets) if url else None
    if isinstance(source, DltSource) and url and key:
        return SourceApi(base_url=url, key=SecretStr(key))
    url = url or (stack.get("urls") or {}).get(f"{source.connection}_extractor")
    return SourceDatabase(url=SecretStr(url)) if url else None


def replace_address(role: Literal["loader", "transformer", "reader"], url: str) -> None:
    """Put another address for the role into the block `warehouse`; the others stay, unless theirs was the same: one
    account cannot be turned for one role and not for the other.

    Raises:
        ConfigurationError: there is no such block.
    """
    present = stored(Warehouse, "warehouse")
    if not isinstance(present, Warehouse):
        raise ConfigurationError(
            "there is no block to put the address in", where="block warehouse", fix="run `medallion register`"
        )
    former = getattr(present, role)
    same = [name for name in ("loader", "transformer", "reader") if name == role or getattr(present, name) == former]
    changed = present.model_copy(update=dict.fromkeys(same, SecretStr(url)))
    changed.save("warehouse", overwrite=True, _sync=True)  # type: ignore[call-arg]  # added by Prefect's dispatcher


def save(name: str, block: Block) -> Registered:
    """Create the document, or overwrite it when it holds something else."""
    kind = type(block).__name__
    present = stored(type(block), name)
    if present is not None and values_of(present) == values_of(block):
        return Registered(name, kind, "unchanged")
    block.save(document_name(name), overwrite=True, _sync=True)  # type: ignore[call-arg]  # as above
    return Registered(name, kind, "created" if present is None else "updated")


def values_of(block: Block) -> dict[str, Any]:
    """Its fields with secrets in the open, to compare them and never to show them."""
    return {name: _value(getattr(block, name)) for name in type(block).model_fields}


def _value(value: Any) -> Any:
    if isinstance(value, Block):
        return values_of(value)
    return value.get_secret_value() if isinstance(value, SecretStr | SecretDict) else value


def _stack_here() -> Mapping[str, Any]:
    """The embedded stack, when the API in force is its own: other servers get none of its addresses."""
    stack = embedded_stack() or {}
    own = (stack.get("prefect") or {}).get("api_url")
    return stack if own is not None and own == get_current_settings().api.url else {}


def main() -> None:
    """Register, and say what became of each document; of their values nothing is shown."""
    try:
        done = register()
    except MedallionError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    for document in done:
        sys.stdout.write(f"{document.outcome:<9}  {document.name} ({document.kind})\n")
    if not done:
        sys.stdout.write("types registered; nothing is configured to make documents of\n")


if __name__ == "__main__":
    main()
