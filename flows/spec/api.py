"""A paginated API that we read, and its endpoints."""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field

from flows.spec.cursor import Since
from flows.spec.database import refuse_repeats, unknown_table
from flows.spec.errors import DeclarationError
from flows.spec.identifiers import require_plain
from flows.spec.load import Append, Merge, Replace
from flows.spec.rule import Rule

# Types a key may have: they compare and hash the same at the API and in the warehouse.
KEY_TYPES = ("text", "bigint", "uuid")


@dataclass(frozen=True, slots=True)
class ApiKeyHeader:
    """The key travels in a header: `X-API-Key: …`."""

    header: str = "X-API-Key"


@dataclass(frozen=True, slots=True)
class ApiKeyQuery:
    """The key travels in the query: `?api_key=…`. Such URLs are never logged."""

    parameter: str = "api_key"


@dataclass(frozen=True, slots=True)
class NoAuth:
    """The API is open."""


@dataclass(frozen=True, slots=True)
class LinkHeader:
    """The next page stands in the answer's `Link` header (RFC 8288), with rel="next".

        HTTP/1.1 200 OK
        Link: <https://api.example.com/v1/orders?limit=100&after=abc>; rel="next"

    Paging ends when the header, or that relation, is absent.
    """

    rel: str = "next"


@dataclass(frozen=True, slots=True)
class SinglePage:
    """One answer holds everything."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One list of records.

        Endpoint("coupons", path="/v1/coupons", key="id", cursor=Since("updated_since", field="updated_at"))

    `records` and `total` are dotted paths in the answer's body (`records=""` when the body itself is the list).
    `key` is a top-level field of a record and `key_type` its type in raw: text, bigint or uuid.
    `page_size` is sent as `page_size_parameter`; None sends nothing.
    """

    name: str
    path: str
    key: str = "id"
    key_type: str = "text"
    records: str = "data"
    total: str | None = None
    cursor: Since | None = None
    load: Replace | Merge | Append = field(default_factory=Merge)
    pagination: LinkHeader | SinglePage | None = None
    params: tuple[tuple[str, str], ...] = ()
    page_size: int | None = None
    page_size_parameter: str = "limit"
    rules: tuple[Rule, ...] = ()
    max_quarantined: float = 0.0
    description: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """The key's columns in raw."""
        return (self.key,)

    @property
    def deletes(self) -> bool:
        """An API tells of deleted records only through Replace."""
        return False

    def __post_init__(self) -> None:
        where = f"endpoint {self.name}"
        require_plain(self.name, "endpoint", where)
        if not self.path.startswith("/"):
            raise DeclarationError(
                f"the path {self.path!r} is not absolute", where=where, next_move="begin it with /, below the base URL"
            )
        if self.key_type not in KEY_TYPES:
            raise DeclarationError(
                f"key_type {self.key_type!r} is unknown", where=where, next_move=f"use {', '.join(KEY_TYPES)}"
            )
        if not isinstance(self.load, Merge | Replace):
            raise DeclarationError(
                "records of an API are matched by key, since a page may repeat",
                where=where,
                next_move="use load=Merge() or load=Replace()",
            )
        if isinstance(self.load, Replace) and self.cursor is not None:
            raise DeclarationError(
                "a replace reads the whole list, so a cursor would never be used",
                where=where,
                next_move="remove the cursor, or use load=Merge()",
            )
        if not 0 <= self.max_quarantined <= 1:
            raise DeclarationError(
                f"max_quarantined is a share between 0 and 1, not {self.max_quarantined}",
                where=where,
                next_move="write 0.01 for one record in a hundred",
            )
        refuse_repeats([rule.name for rule in self.rules], "rule", where)


@dataclass(frozen=True, slots=True)
class Api:
    """An API that we read.

    `connection` names it in the environment (MEDALLION_SOURCE_<CONNECTION>_URL and …_KEY) and among the blocks
    (source-<connection>). `rate` is requests per second that we allow ourselves, None for no bound of ours.
    """

    name: str
    connection: str
    endpoints: SequenceOf[Endpoint]
    auth: ApiKeyHeader | ApiKeyQuery | NoAuth = field(default_factory=NoAuth)
    pagination: LinkHeader | SinglePage = field(default_factory=LinkHeader)
    rate: float | None = None
    schedule: str | None = None
    max_parallel: int = 2
    description: str = ""
    kind: str = field(default="api", init=False)

    @property
    def raw_schema(self) -> str:
        """Where its records land: `raw_marketing`."""
        return f"raw_{self.name}"

    @property
    def tables(self) -> SequenceOf[Endpoint]:
        """The endpoints, as every source names what it loads."""
        return self.endpoints

    def __post_init__(self) -> None:
        where = f"source {self.name}"
        require_plain(self.name, "source", where)
        require_plain(self.connection, "connection", where)
        if not self.endpoints:
            raise DeclarationError("no endpoints", where=where, next_move="declare at least one Endpoint")
        if self.rate is not None and self.rate <= 0:
            raise DeclarationError(
                "the rate is not above 0", where=where, next_move="write requests per second, such as rate=10"
            )
        refuse_repeats([endpoint.name for endpoint in self.endpoints], "endpoint", where)
        object.__setattr__(self, "endpoints", tuple(self.endpoints))

    def table(self, name: str) -> Endpoint:
        """The declared endpoint of that name.

        Raises:
            DeclarationError: there is none; the message lists those there are.
        """
        for endpoint in self.endpoints:
            if endpoint.name == name:
                return endpoint
        raise unknown_table(self.name, name, [endpoint.name for endpoint in self.endpoints])

    def pagination_of(self, endpoint: Endpoint) -> LinkHeader | SinglePage:
        """The endpoint's own pagination, or the API's."""
        return endpoint.pagination or self.pagination
