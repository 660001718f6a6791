"""The commerce API of the marketing team: campaigns, their targets, coupons and redemptions."""

from flows.kinds.api import Api, ApiKeyHeader, Endpoint, LinkHeader, Since

marketing = Api(
    "marketing",
    connection="marketing",
    auth=ApiKeyHeader("X-API-Key"),
    pagination=LinkHeader(),
    schedule="25 * * * *",
    description="The marketing team's commerce API.",
    endpoints=[
        Endpoint(
            "campaigns",
            path="/v1/campaigns",
            key_type="bigint",
            total="meta.total",
            cursor=Since("updated_since", field="updated_at", lag="10 min"),
            page_size=100,
            description="One record per campaign.",
        ),
        Endpoint(
            "campaign_targets",
            path="/v1/campaign_targets",
            total="meta.total",
            cursor=Since("updated_since", field="updated_at", lag="10 min"),
            page_size=500,
            description="One record per household targeted by a campaign.",
        ),
        Endpoint(
            "coupons",
            path="/v1/coupons",
            total="meta.total",
            cursor=Since("updated_since", field="updated_at", lag="10 min"),
            page_size=250,
            description="One record per coupon of a campaign, with the products it applies to.",
        ),
        Endpoint(
            "redemptions",
            path="/v1/redemptions",
            key_type="bigint",
            total="meta.total",
            cursor=Since("updated_since", field="updated_at", lag="10 min"),
            page_size=500,
            description="One record per coupon redeemed at a checkout.",
        ),
    ],
)
