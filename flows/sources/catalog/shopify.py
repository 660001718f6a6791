"""Shopify's Admin REST API: orders, products and customers.

MEDALLION_SOURCE_SHOPIFY_URL is https://<shop>.myshopify.com, …_KEY an access token with read_orders, read_products and
read_customers. API versions are supported for a year: upgrade the one in the paths in time.
"""

from flows.kinds.api import Api, ApiKeyHeader, Endpoint, LinkHeader, Since

shopify = Api(
    "shopify",
    connection="shopify",
    auth=ApiKeyHeader("X-Shopify-Access-Token"),
    pagination=LinkHeader(),
    rate=2,
    schedule="10 * * * *",
    description="The web shop's Admin API.",
    endpoints=[
        Endpoint(
            "orders",
            path="/admin/api/2025-07/orders.json",
            records="orders",
            key_type="bigint",
            params=(("status", "any"),),
            cursor=Since("updated_at_min", field="updated_at", lag="5 min"),
            page_size=250,
            description="One record per order, open or closed, with its lines.",
        ),
        Endpoint(
            "products",
            path="/admin/api/2025-07/products.json",
            records="products",
            key_type="bigint",
            cursor=Since("updated_at_min", field="updated_at", lag="5 min"),
            page_size=250,
            description="One record per product, with its variants.",
        ),
        Endpoint(
            "customers",
            path="/admin/api/2025-07/customers.json",
            records="customers",
            key_type="bigint",
            cursor=Since("updated_at_min", field="updated_at", lag="5 min"),
            page_size=250,
            description="One record per customer.",
        ),
    ],
)
