"""Jira Cloud's search by JQL, whose times are those of the user's profile, in minutes.

MEDALLION_SOURCE_JIRA_URL is https://<site>.atlassian.net, …_USER the email of the user, …_KEY an API token.
"""

from flows.kinds.api import Api, Basic, Cursor, Endpoint, Since

_CHANGED = Since(
    "jql",
    field="fields.updated",
    sent="%Y-%m-%d %H:%M",
    zone="Europe/Vienna",
    begin="2002-01-01",
    prefix='updated >= "',
    suffix='" ORDER BY updated ASC',
)

jira = Api(
    "jira",
    connection="jira",
    auth=Basic(),
    pagination=Cursor("nextPageToken", at="nextPageToken", last="isLast"),
    endpoints=[
        Endpoint(
            "issues",
            description="One record per issue.",
            path="/rest/api/3/search/jql",
            params=(("fields", "*all"),),
            records="issues",
            key_type="bigint",
            page_size=100,
            page_size_parameter="maxResults",
            cursor=_CHANGED,
        ),
    ],
)
