"""Slack's channels and their messages.

MEDALLION_SOURCE_SLACK_URL is https://slack.com, …_KEY a bot token with channels:read and channels:history.
"""

from flows.kinds.api import Api, Bearer, Cursor, Endpoint, Parent, Since, When

_ANSWERS = (
    When(body="error=ratelimited", then="retry"),
    When(body="error=invalid_cursor", then="restart"),
    When(body="error=not_in_channel", then="skip"),
    When(body="ok=false", then="fail", fix="look up the field `error` of the response in Slack's documentation"),
)

_CHANNELS = Endpoint(
    "channels",
    description="One record per public channel.",
    path="/api/conversations.list",
    records="channels",
    page_size=200,
)

_MESSAGES = Endpoint(
    "messages",
    description="One record per message of a channel the bot is in.",
    path="/api/conversations.history",
    params=(("channel", "{id}"),),
    records="messages",
    key=("channel", "ts"),
    page_size=200,
    parent=Parent("channels", column="channel", every=True),
    cursor=Since("oldest", field="ts", form="epoch_decimal", column="sent_at", lag="1 day"),
)

slack = Api(
    "slack",
    connection="slack",
    auth=Bearer(),
    pagination=Cursor("cursor", at="response_metadata.next_cursor"),
    answers=_ANSWERS,
    endpoints=[_CHANNELS, _MESSAGES],
)
