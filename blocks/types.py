"""The four kinds of block. Every secret in them is a SecretStr: Prefect encrypts it at rest and shows asterisks."""

from typing import ClassVar, Literal

from prefect.blocks.core import Block
from pydantic import Field, SecretStr


class Warehouse(Block):
    """The warehouse, one address a role: postgresql://role:password@host:port/database."""

    _block_type_name: ClassVar[str | None] = "Medallion warehouse"
    _block_type_slug: ClassVar[str | None] = "medallion-warehouse"
    _description: ClassVar[str | None] = "The warehouse: an address for each of its roles."

    loader: SecretStr = Field(description="Writes raw, operations and quarantine")
    transformer: SecretStr = Field(description="Builds silver and gold")
    reader: SecretStr | None = Field(None, description="Reads gold")


class SourceDatabase(Block):
    """A database that is read: postgresql://reader:password@host:port/database."""

    _block_type_name: ClassVar[str | None] = "Medallion source database"
    _block_type_slug: ClassVar[str | None] = "medallion-source-database"
    _description: ClassVar[str | None] = "A database that ingest reads."

    url: SecretStr = Field(description="Address with a role that may only read")


class SourceApi(Block):
    """An API that is read."""

    _block_type_name: ClassVar[str | None] = "Medallion source API"
    _block_type_slug: ClassVar[str | None] = "medallion-source-api"
    _description: ClassVar[str | None] = "An API that ingest reads."

    base_url: str = Field(description="https://api.example.com, without credentials in it")
    key: SecretStr | None = Field(None, description="The key it asks for, if any: password, token or client secret too")
    user: SecretStr | None = Field(None, description="The user or OAuth2 client id that goes with the key, if any")


class AlertChannel(Block):
    """Where alerts go. The webhook's address is its own password, hence a secret."""

    _block_type_name: ClassVar[str | None] = "Medallion alert channel"
    _block_type_slug: ClassVar[str | None] = "medallion-alert-channel"
    _description: ClassVar[str | None] = "A webhook that alerts are posted to."

    webhook: SecretStr = Field(description="The address that takes a POST")
    form: Literal["slack", "teams", "json"] = Field("json", description="How the body is shaped")
    severity: Literal["info", "warning", "critical"] = Field("warning", description="The lowest severity it hears of")


TYPES: tuple[type[Block], ...] = (Warehouse, SourceDatabase, SourceApi, AlertChannel)
