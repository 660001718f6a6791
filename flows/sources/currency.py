"""Exchange rates: the daily price of a US dollar in other currencies."""

from flows.kinds.api import Api, ApiKeyHeader, Endpoint, LinkHeader, Since

currency = Api(
    "currency",
    connection="currency",
    auth=ApiKeyHeader("X-API-Key"),
    pagination=LinkHeader(),
    schedule="5 * * * *",
    description="Exchange rates for reporting currencies.",
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
