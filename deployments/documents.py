"""`python -m deployments.documents`: fill block documents from the environment or the embedded stack.

Documents are overwritten with the current configuration; those without configuration are not changed.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from prefect.blocks.core import Block
from prefect.settings import get_current_settings
from pydantic import SecretStr

from blocks.documents import Registered, register_types, save
from blocks.server import require_server
from blocks.types import AlertChannel, SourceApi, SourceDatabase, Warehouse
from flows.access.addresses import configured as configured_address
from flows.access.addresses import embedded, embedded_stack, secrets_in
from flows.declare.source import Source
from flows.kinds.registry import kind_of
from flows.sources import SOURCES
from flows.values.errors import MedallionError
from flows.values.settings import settings

_CHANNEL = "MEDALLION_ALERT_CHANNEL_"


def register() -> list[Registered]:
    """Register types and documents with the configured Prefect API. Idempotent.

    Raises:
        ConfigurationError: no usable server is configured, or the embedded stack's file cannot be read.
    """
    require_server()
    register_types()
    return [save(name, block) for name, block in configured()]


def configured() -> list[tuple[str, Block]]:
    """The configured documents, by name.

    Raises:
        ConfigurationError: the embedded stack's file cannot be read.
    """
    found = [*documents(os.environ, _stack_here())]
    if settings().lake_bucket:
        from blocks import aws

        found += aws.lake_blocks(settings().lake_bucket)
    return found


def documents(environment: Mapping[str, str], stack: Mapping[str, Any]) -> Iterator[tuple[str, Block]]:
    """The documents with values: from the environment first, then from the embedded stack."""
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
    for variable, address in sorted(environment.items()):
        if variable.startswith(_CHANNEL) and address:
            name = variable.removeprefix(_CHANNEL).lower().replace("_", "-")
            yield f"alerts-{name}", AlertChannel(webhook=SecretStr(address))


def _source_block(source: Source, environment: Mapping[str, str], stack: Mapping[str, Any]) -> Block | None:
    if source.connection is None:
        return None  # what the source needs is configured elsewhere
    found = configured_address(source.connection, environment) or embedded(source.connection, stack)
    if found is None:
        return None
    if not kind_of(source).has_key:
        return SourceDatabase(url=SecretStr(found.url))
    given = secrets_in(source.connection, environment)
    secrets = {name: getattr(found, name) or value for name, value in given.items()}
    return SourceApi(base_url=found.url, **{name: SecretStr(value) for name, value in secrets.items() if value})


def _stack_here() -> Mapping[str, Any]:
    """The embedded stack, if the configured API is its own: other servers get none of its URLs."""
    stack = embedded_stack() or {}
    own = (stack.get("prefect") or {}).get("api_url")
    return stack if own is not None and own == get_current_settings().api.url else {}


def main() -> None:
    """Register, and print the outcome per document, without values."""
    try:
        done = register()
    except MedallionError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    for document in done:
        sys.stdout.write(f"{document.outcome:<9}  {document.name} ({document.kind})\n")
    if not done:
        sys.stdout.write("types registered; nothing is configured to create blocks from\n")


if __name__ == "__main__":
    main()
