"""A paginated API that we read."""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field

from flows.declare.refusals import refuse_repeats, unknown_table
from flows.kinds.api.declared.auth import ApiKeyHeader, ApiKeyQuery, Auth, Basic, Bearer, NoAuth, OAuth2
from flows.kinds.api.declared.endpoint import KEY_TYPES, Endpoint, Field, Parent
from flows.kinds.api.declared.pagination import (
    Cursor,
    LinkHeader,
    NextHeader,
    NextUrl,
    Offset,
    PageNumber,
    Pagination,
    SinglePage,
)
from flows.kinds.api.declared.rate import Rate
from flows.values.errors import DeclarationError
from flows.values.identifiers import require_plain

__all__ = [
    "KEY_TYPES",
    "Api",
    "ApiKeyHeader",
    "ApiKeyQuery",
    "Auth",
    "Basic",
    "Bearer",
    "Cursor",
    "Endpoint",
    "Field",
    "LinkHeader",
    "NextHeader",
    "NextUrl",
    "NoAuth",
    "OAuth2",
    "Offset",
    "PageNumber",
    "Pagination",
    "Parent",
    "Rate",
    "SinglePage",
]


@dataclass(frozen=True, slots=True)
class Api:
    """An API that we read.

    `connection` names it in the environment (MEDALLION_SOURCE_<CONNECTION>_URL, …_KEY and …_USER) and among the blocks
    (source-<connection>). `rate` is what we allow ourselves, as requests per second or as a `Rate`; None for no bound
    of ours. `headers` go out with every request; secrets do not belong there. `concurrent` is how many pages or
    children of an endpoint are fetched at one time, unless the endpoint says otherwise.
    """

    name: str
    connection: str
    endpoints: SequenceOf[Endpoint]
    auth: Auth = field(default_factory=NoAuth)
    pagination: Pagination = field(default_factory=LinkHeader)
    rate: float | Rate | None = None
    headers: tuple[tuple[str, str], ...] = ()
    concurrent: int = 4
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
            raise DeclarationError("no endpoints", where=where, fix="declare at least one Endpoint")
        if isinstance(self.rate, int | float) and self.rate <= 0:
            raise DeclarationError(
                "the rate is not above 0", where=where, fix="write requests per second, such as rate=10"
            )
        if self.concurrent < 1:
            raise DeclarationError("concurrent is below 1", where=where, fix="write how many at one time")
        for name, _ in self.headers:
            if name.lower() in ("authorization", "cookie", "proxy-authorization"):
                raise DeclarationError(
                    f"{name} is a credential, and a declaration is no place for one",
                    where=where,
                    fix="declare auth=, and set the key in the environment or a block",
                )
        refuse_repeats([endpoint.name for endpoint in self.endpoints], "endpoint", where)
        object.__setattr__(self, "endpoints", tuple(self.endpoints))
        for endpoint in self.endpoints:
            self._check_endpoint(endpoint, f"{self.name}.{endpoint.name}")

    def _check_endpoint(self, endpoint: Endpoint, where: str) -> None:
        pagination = self.pagination_of(endpoint)
        if pagination is not None:
            endpoint.check_pagination(pagination, where)
        if endpoint.parent is None:
            return
        parent = self.table(endpoint.parent.endpoint)
        unknown = [name for name in endpoint.placeholders if name not in parent.keys]
        if unknown or parent.parent is not None:
            raise DeclarationError(
                f"{{{unknown[0]}}} is no key of {parent.name}" if unknown else f"{parent.name} has a parent itself",
                where=where,
                fix=f"choose among {', '.join(parent.keys)}" if unknown else "name its parent",
            )
        if parent.keys[0] not in endpoint.placeholders:
            raise DeclarationError(
                f"its path lacks {{{parent.keys[0]}}}, by which raw says whose a record is",
                where=where,
                fix=f"name in the path what the key of {parent.name} begins with, or change that key's order",
            )

    def table(self, name: str) -> Endpoint:
        """The declared endpoint of that name.

        Raises:
            DeclarationError: there is none; the message lists those there are.
        """
        for endpoint in self.endpoints:
            if endpoint.name == name:
                return endpoint
        raise unknown_table(self.name, name, [endpoint.name for endpoint in self.endpoints])

    def pagination_of(self, endpoint: Endpoint) -> Pagination:
        """The endpoint's own pagination, or the API's."""
        return endpoint.pagination or self.pagination

    def concurrent_of(self, endpoint: Endpoint) -> int:
        """How many pages or children of the endpoint are fetched at one time."""
        return endpoint.concurrent or self.concurrent

    @property
    def pace(self) -> Rate | None:
        """The rate, however it was declared."""
        return self.rate if self.rate is None or isinstance(self.rate, Rate) else Rate(requests=self.rate)
