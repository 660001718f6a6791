"""Paginated source APIs."""

import re
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field

from flows.declare.ask import Ask, refuse_ask
from flows.declare.budget import Budget, refuse_budget
from flows.declare.freshness import Freshness, refuse_freshness
from flows.declare.refusals import refuse_repeats, unknown_table
from flows.kinds.api.declared.answers import When
from flows.kinds.api.declared.auth import Auth
from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.declared.headers import refuse_headers
from flows.kinds.api.declared.pagination import (
    LinkHeader,
    Pagination,
    SinglePage,
    check_pagination,
)
from flows.kinds.api.declared.rate import Rate
from flows.kinds.api.declared.sent import NoAuth
from flows.values.errors import DeclarationError
from flows.values.identifiers import require_plain


@dataclass(frozen=True, slots=True)
class Api:
    """A source API.

    `connection` names it in the environment (MEDALLION_SOURCE_<CONNECTION>_URL, …_KEY and …_USER) and among the blocks
    (source-<connection>). `rate` is our own rate limit, as requests per second or as a `Rate`; None for no
    limit. `headers` are sent with every request; secrets do not belong there. `concurrent` is the number of pages or
    children of an endpoint fetched in parallel, unless the endpoint declares its own. `client_certificate`: mutual TLS
    (RFC 8705), beside any `auth`; the certificate and its key are in …_CERTIFICATE. `stores` are hosts of object stores
    that the API's redirects and documents may lead to, such as "*.s3.amazonaws.com"; they get no credentials.
    `answers` says what answers of all endpoints mean, see `When`. `freshness` is how fresh its tables must be, `budget`
    what all loads of a run may read together. `on_refusal=Ask()` has a person decide before a load is refused.
    `traced`: its requests have the header `traceparent`, for an API of your own whose spans belong to the same trace.
    """

    name: str
    connection: str
    endpoints: SequenceOf[Endpoint]
    auth: Auth = field(default_factory=NoAuth)
    pagination: Pagination = field(default_factory=LinkHeader)
    rate: float | Rate | None = None
    headers: tuple[tuple[str, str], ...] = ()
    answers: tuple[When, ...] = ()
    concurrent: int = 4
    client_certificate: bool = False
    stores: tuple[str, ...] = ()
    schedule: str | None = None
    max_parallel: int = 2
    description: str = ""
    freshness: Freshness | None = None
    budget: Budget | None = None
    on_refusal: Ask | None = None
    traced: bool = False

    @property
    def kind(self) -> str:
        """The folder in flows/kinds with its implementation."""
        return "api"

    @property
    def raw_schema(self) -> str:
        """The schema of its raw tables: `raw_marketing`."""
        return f"raw_{self.name}"

    @property
    def tables(self) -> SequenceOf[Endpoint]:
        """The endpoints, under the common name of all sources."""
        return self.endpoints

    def __post_init__(self) -> None:
        where = f"source {self.name}"
        require_plain(self.name, "source", where)
        require_plain(self.connection, "connection", where)
        refuse_freshness(self.freshness, where)
        refuse_budget(self.budget, where)
        refuse_ask(self.on_refusal, where)
        if not self.endpoints:
            raise DeclarationError("no endpoints", where=where, fix="declare at least one Endpoint")
        if isinstance(self.rate, int | float) and self.rate <= 0:
            raise DeclarationError(
                "the rate must be above 0", where=where, fix="write requests per second, such as rate=10"
            )
        if self.concurrent < 1:
            raise DeclarationError(
                "concurrent must be at least 1", where=where, fix="write the number of parallel requests"
            )
        refuse_headers(self.headers, where)
        for store in self.stores:
            if not re.fullmatch(r"(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:\d+)?", store) or store.count(".") < 2:
                raise DeclarationError(
                    f"{store!r} is not the host of a store", where=where, fix='write "*.s3.amazonaws.com"'
                )
        refuse_repeats([endpoint.name for endpoint in self.endpoints], "endpoint", where)
        object.__setattr__(self, "endpoints", tuple(self.endpoints))
        for endpoint in self.endpoints:
            self._check_endpoint(endpoint, f"{self.name}.{endpoint.name}")

    def _check_endpoint(self, endpoint: Endpoint, where: str) -> None:
        pagination = self.pagination_of(endpoint)
        if pagination is not None:
            check_pagination(pagination, endpoint, where)
        if endpoint.parent is None:
            return
        parent = self.table(endpoint.parent.endpoint)
        names = [*parent.keys, *(field.name for field in parent.copied), *(one.name for one in endpoint.parent.fields)]
        parts = [part.name for part in endpoint.partitions]
        unknown = [name for name in endpoint.placeholders if name not in (*names, *parts)]
        if unknown:
            raise DeclarationError(
                f"{{{unknown[0]}}} is not a key of {parent.name}",
                where=where,
                fix=f"use one of {', '.join(dict.fromkeys(names))}, or declare it among fields= of the parent",
            )
        if endpoint.parent.group is not None and len(parent.keys) > 1:
            raise DeclarationError(
                f"{parent.name} has a key of several values, and children in a group are told apart by one",
                where=where,
                fix="remove the group",
            )
        told = {parent.keys[0], *(one.name for one in endpoint.parent.fields)}
        hidden = [name for name in endpoint.placeholders if name in parent.keys and name not in told]
        if endpoint.cursor is not None and hidden:
            raise DeclarationError(
                f"raw does not tell the lists of two {{{hidden[0]}}} apart, so that they would share a cursor",
                where=where,
                fix=f'declare fields=(Field("{hidden[0]}"),) of its parent, or remove the cursor',
            )
        if endpoint.name in self._above(parent):
            raise DeclarationError(
                "it is below itself", where=where, fix="name the endpoint whose records have its keys"
            )
        if parent.keys[0] not in endpoint.placeholders:
            raise DeclarationError(
                f"its request lacks {{{parent.keys[0]}}}, by which raw stores a record's parent",
                where=where,
                fix=f"use the first column of {parent.name}'s key in the path, or reorder that key",
            )

    def _above(self, endpoint: Endpoint) -> list[str]:
        """The endpoint and its parents."""
        names = [endpoint.name]
        while endpoint.parent is not None and endpoint.parent.endpoint not in names:
            endpoint = self.table(endpoint.parent.endpoint)
            names.append(endpoint.name)
        return names

    def table(self, name: str) -> Endpoint:
        """The declared endpoint of that name.

        Raises:
            DeclarationError: it does not exist; the message lists the declared ones.
        """
        for endpoint in self.endpoints:
            if endpoint.name == name:
                return endpoint
        raise unknown_table(self.name, name, [endpoint.name for endpoint in self.endpoints])

    def pagination_of(self, endpoint: Endpoint) -> Pagination:
        """The endpoint's own pagination, or the API's; a document that is not JSON is a single one."""
        return endpoint.pagination or (self.pagination if endpoint.format is None else SinglePage())

    def concurrent_of(self, endpoint: Endpoint) -> int:
        """How many pages or children of the endpoint are fetched in parallel."""
        return endpoint.concurrent or self.concurrent

    @property
    def pace(self) -> Rate | None:
        """The declared rate as a `Rate`."""
        return self.rate if self.rate is None or isinstance(self.rate, Rate) else Rate(requests=self.rate)
