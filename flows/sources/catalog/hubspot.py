"""HubSpot's search for contacts, which returns 10,000 results per query: more are read in windows of time.

MEDALLION_SOURCE_HUBSPOT_URL is https://api.hubapi.com, …_KEY the token of a private app.
"""

from flows.kinds.api import Api, Bearer, Cursor, Endpoint, Since

_CHANGED = {"propertyName": "lastmodifieddate"}
_FILTERS = [{**_CHANGED, "operator": "GTE", "value": ""}, {**_CHANGED, "operator": "LTE", "value": ""}]
_FROM, _TO = "filterGroups.0.filters.0.value", "filterGroups.0.filters.1.value"

_CHANGES = Since(_FROM, field="updatedAt", sent="epoch_ms", until=_TO, begin="2006-01-01", cap=10_000, lag="1 min")

hubspot = Api(
    "hubspot",
    connection="hubspot",
    auth=Bearer(),
    pagination=Cursor("after", at="paging.next.after"),
    rate=4,
    endpoints=[
        Endpoint(
            "contacts",
            description="One record per contact that is not archived.",
            path="/crm/v3/objects/contacts/search",
            body={"filterGroups": [{"filters": _FILTERS}], "properties": ["email", "firstname", "lastname"]},
            records="results",
            total="total",
            page_size=200,
            cursor=_CHANGES,
        ),
    ],
)
