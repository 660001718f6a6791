"""Create and update block documents from the environment or the embedded stack.

Documents are overwritten with the current configuration; those without configuration are not changed.
"""

from dataclasses import dataclass
from typing import Any, Literal

from prefect.blocks.core import Block
from prefect.exceptions import ObjectAlreadyExists
from prefect.types import SecretDict
from pydantic import SecretStr

from blocks.lookup import document_name, stored
from blocks.types import TYPES, KeptToken, Warehouse
from flows.values.errors import ConfigurationError
from flows.values.settings import settings


@dataclass(frozen=True, slots=True)
class Registered:
    """A configured document, and its outcome."""

    name: str
    kind: str
    outcome: Literal["created", "updated", "unchanged"]


def register_types() -> None:
    """Register the block types of our documents. Idempotent."""
    kinds = TYPES
    if settings().lake_bucket:
        from blocks import aws  # imports prefect-aws, which takes two seconds

        kinds = (*TYPES, *aws.TYPES)
    for kind in kinds:
        _register_type(kind)


def _register_type(kind: type[Block]) -> None:
    try:
        kind.register_type_and_schema(_sync=True)  # type: ignore[call-arg]  # added by Prefect's dispatcher
    except ObjectAlreadyExists:
        # Another command has registered the same between our check and our creation.
        kind.register_type_and_schema(_sync=True)  # type: ignore[call-arg]


def replace_address(role: Literal["loader", "transformer", "reader"], url: str) -> None:
    """Store a new connection URL for the role in the block `warehouse`; other roles keep theirs, unless it was the
    same: one account cannot be rotated for one role and not for the other.

    Raises:
        ConfigurationError: the block does not exist.
    """
    present = stored(Warehouse, "warehouse")
    if not isinstance(present, Warehouse):
        raise ConfigurationError(
            "there is no block to store the connection URL in", where="block warehouse", fix="run `medallion register`"
        )
    former = getattr(present, role)
    same = [name for name in ("loader", "transformer", "reader") if name == role or getattr(present, name) == former]
    changed = present.model_copy(update=dict.fromkeys(same, SecretStr(url)))
    changed.save("warehouse", overwrite=True, _sync=True)  # type: ignore[call-arg]  # added by Prefect's dispatcher


def kept_token(name: str) -> str | None:
    """The token that loads keep in the block of that name; None if there is none yet."""
    present = stored(KeptToken, name)
    return present.state.get_secret_value() if isinstance(present, KeptToken) else None


def keep_token(name: str, state: str) -> None:
    """Keep a token in the block of that name, in place of the former one."""
    block = KeptToken(state=SecretStr(state))
    block.save(document_name(name), overwrite=True, _sync=True)  # type: ignore[call-arg]  # as above


def save(name: str, block: Block) -> Registered:
    """Create the document, or overwrite it if it differs."""
    kind = type(block).__name__
    present = stored(type(block), name)
    if present is not None and values_of(present) == values_of(block):
        return Registered(name, kind, "unchanged")
    block.save(document_name(name), overwrite=True, _sync=True)  # type: ignore[call-arg]  # as above
    return Registered(name, kind, "created" if present is None else "updated")


def values_of(block: Block) -> dict[str, Any]:
    """Its fields with plain secrets, for comparison only."""
    return {name: _value(getattr(block, name)) for name in type(block).model_fields}


def _value(value: Any) -> Any:
    if isinstance(value, Block):
        return values_of(value)
    return value.get_secret_value() if isinstance(value, SecretStr | SecretDict) else value
