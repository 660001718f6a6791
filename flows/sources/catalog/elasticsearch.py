"""Documents of an Elasticsearch index, by search_after.

MEDALLION_SOURCE_ELASTICSEARCH_URL is the cluster, …_KEY an API key.
"""

from flows.kinds.api import Api, Bearer, Cursor, Endpoint, Field, Since, When

_SEARCH = {"query": {"range": {"updated_at": {"gte": ""}}}, "sort": [{"updated_at": "asc"}, {"id": "asc"}]}

# A search that timed out, or lacks shards, has a part of the hits.
_PARTIAL = (When(body="timed_out=true", then="retry"), When(body="_shards.failed!=0", then="retry"))
_CHANGES = Since("query.range.updated_at.gte", field="_source.updated_at", begin="1970-01-01", lag="1 min")

elasticsearch = Api(
    "elasticsearch",
    connection="elasticsearch",
    auth=Bearer("ApiKey"),
    pagination=Cursor("search_after", at="hits.hits.-1.sort"),
    answers=_PARTIAL,
    endpoints=[
        Endpoint(
            "events",
            description="One record per event, as the index holds it now.",
            path="/events/_search",
            body=_SEARCH,
            records="hits.hits",
            key=Field("id", at="_id"),
            page_size=1000,
            page_size_parameter="size",
            cursor=_CHANGES,
        ),
    ],
)
