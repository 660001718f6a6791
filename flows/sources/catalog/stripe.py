"""Stripe's charges.

MEDALLION_SOURCE_STRIPE_URL is https://api.stripe.com, …_KEY a restricted key that may read charges.
"""

from flows.kinds.api import Api, Bearer, Cursor, Endpoint, Since

stripe = Api(
    "stripe",
    connection="stripe",
    auth=Bearer(),
    pagination=Cursor("starting_after", at="data.-1.id", more="has_more"),
    rate=25,
    endpoints=[
        Endpoint(
            "charges",
            description="One record per charge.",
            path="/v1/charges",
            page_size=100,
            # Stripe filters by the time of creation only: charges of a month are read again, since they may change.
            cursor=Since("created[gte]", field="created", form="epoch", lag="30 days"),
        ),
    ],
)
