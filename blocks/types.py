"""The five kinds of block. Every secret in them is a SecretStr: Prefect encrypts it at rest and shows asterisks."""

from typing import ClassVar, Literal

from prefect.blocks.core import Block
from pydantic import Field, SecretStr


class Warehouse(Block):
    """The warehouse, one connection URL per role: postgresql://role:password@host:port/database."""

    _block_type_name: ClassVar[str | None] = "Medallion warehouse"
    _block_type_slug: ClassVar[str | None] = "medallion-warehouse"
    _description: ClassVar[str | None] = "The warehouse: a connection URL per role."

    loader: SecretStr = Field(description="Writes raw, operations and quarantine")
    transformer: SecretStr = Field(description="Builds silver and gold")
    reader: SecretStr | None = Field(None, description="Reads gold")


class SourceDatabase(Block):
    """A source database: postgresql://reader:password@host:port/database."""

    _block_type_name: ClassVar[str | None] = "Medallion source database"
    _block_type_slug: ClassVar[str | None] = "medallion-source-database"
    _description: ClassVar[str | None] = "A database that ingest reads."

    url: SecretStr = Field(description="Connection URL with a read-only role")


class SourceApi(Block):
    """A source API."""

    _block_type_name: ClassVar[str | None] = "Medallion source API"
    _block_type_slug: ClassVar[str | None] = "medallion-source-api"
    _description: ClassVar[str | None] = "An API that ingest reads."

    base_url: str = Field(description="https://api.example.com, without credentials in it")
    key: SecretStr | None = Field(None, description="The API's key, if any: also a password, token or client secret")
    user: SecretStr | None = Field(None, description="The user or OAuth2 client id that goes with the key, if any")
    token: SecretStr | None = Field(None, description="The first refresh token, if the API's authentication has one")
    certificate: SecretStr | None = Field(None, description="A client certificate with its key, in PEM, if any")


class KeptToken(Block):
    """A token that an API replaces with every use. Written by loads only."""

    _block_type_name: ClassVar[str | None] = "Medallion kept token"
    _block_type_slug: ClassVar[str | None] = "medallion-kept-token"
    _description: ClassVar[str | None] = "The refresh token that is valid now. Loads replace it."

    state: SecretStr = Field(description="The token as loads keep it")


class AlertChannel(Block):
    """The target of alerts. The webhook's URL is itself a secret."""

    _block_type_name: ClassVar[str | None] = "Medallion alert channel"
    _block_type_slug: ClassVar[str | None] = "medallion-alert-channel"
    _description: ClassVar[str | None] = "A webhook for alerts."

    webhook: SecretStr = Field(description="The webhook's URL")
    form: Literal["slack", "teams", "json"] = Field("json", description="The format of the body")
    severity: Literal["info", "warning", "critical"] = Field("warning", description="The lowest severity to send")


TYPES: tuple[type[Block], ...] = (Warehouse, SourceDatabase, SourceApi, KeptToken, AlertChannel)
