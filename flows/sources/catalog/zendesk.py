"""Zendesk's incremental export of tickets.

MEDALLION_SOURCE_ZENDESK_URL is https://<subdomain>.zendesk.com, …_USER is <email>/token, …_KEY an API token.
"""

from flows.kinds.api import Api, Basic, Endpoint, NextUrl, Rate, Since

zendesk = Api(
    "zendesk",
    connection="zendesk",
    auth=Basic(),
    pagination=NextUrl("after_url", last="end_of_stream"),
    rate=Rate(requests=10, per="1 min"),
    endpoints=[
        Endpoint(
            "tickets",
            description="One record per ticket.",
            path="/api/v2/incremental/tickets/cursor.json",
            records="tickets",
            key_type="bigint",
            # Changes by the system, too, which leave updated_at as it is.
            cursor=Since("start_time", field="generated_timestamp", form="epoch", begin="1", lag="2 min"),
            deleted="status=deleted",
        ),
    ],
)
