"""Exchange rates: what a US dollar costs in other currencies, day by day."""

from flows.kinds.api import Api, ApiKeyHeader, Endpoint, LinkHeader, Since

currency = Api(
    "currency",
    connection="currency",
    auth=ApiKeyHeader("X-API-Key"),
    pagination=LinkHeader(),
    schedule="5 * * * *",
    description="The exchange rates that amounts are shown in.",
    endpoints=[
        Endpoint(
            "exchange_rates",
            path="/v1/exchange_rates",
            total="meta.total",
            cursor=Since("updated_since", field="updated_at", lag="10 min"),
            page_size=500,
            description="One record per working day and currency.",
        ),
    ],
)
