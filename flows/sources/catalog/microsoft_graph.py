"""Users of Microsoft Entra, by Graph's delta query: after the first list, only changes.

MEDALLION_SOURCE_MICROSOFT_GRAPH_URL is https://graph.microsoft.com, …_USER the client id, …_KEY the client secret; the
tenant is part of the token URL.
"""

from flows.kinds.api import Api, ChangeToken, Endpoint, NextUrl, OAuth2, When

_TOKENS = "https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000/oauth2/v2.0/token"

microsoft_graph = Api(
    "microsoft_graph",
    connection="microsoft_graph",
    auth=OAuth2(_TOKENS, scope="https://graph.microsoft.com/.default", client="body"),
    pagination=NextUrl('"@odata.nextLink"'),
    endpoints=[
        Endpoint(
            "users",
            description="One record per user of the tenant.",
            path="/v1.0/users/delta",
            params=(("$select", "displayName,mail,jobTitle"),),
            records="value",
            key_type="uuid",
            cursor=ChangeToken("", at='"@odata.deltaLink"'),
            deleted='"@removed"',
            answers=(When(body='"@odata.deltaLink"', then="end"),),
        ),
    ],
)
