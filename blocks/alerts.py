"""The block `alerts` as a notification of Prefect's own kinds: those are what a server can send by itself.

A server's automations run without our code, so they cannot use AlertChannel.
"""

from prefect.blocks.core import Block
from prefect.blocks.notifications import CustomWebhookNotificationBlock, MicrosoftTeamsWebhook, SlackWebhook
from prefect.types import SecretDict

from blocks.types import AlertChannel

#: The document's name; its type follows from the channel's form.
NAME = "medallion-alerts"


def notification(channel: AlertChannel) -> Block:
    """The block that an automation sends by. The webhook's address stays a secret in it."""
    if channel.form == "slack":
        return SlackWebhook(url=channel.webhook)
    if channel.form == "teams":
        return MicrosoftTeamsWebhook(url=channel.webhook)
    return CustomWebhookNotificationBlock(
        name=NAME,
        url="{{webhook}}",
        json_data={"subject": "{{subject}}", "body": "{{body}}"},
        timeout=10.0,  # as it comes back; the default of 10 would differ from itself
        secrets=SecretDict({"webhook": channel.webhook.get_secret_value()}),
    )
