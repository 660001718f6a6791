"""The block `alerts` as one of Prefect's notification types, which a server can send without our code.

Automations run in the server, so they cannot use AlertChannel.
"""

from prefect.blocks.core import Block
from prefect.blocks.notifications import CustomWebhookNotificationBlock, MicrosoftTeamsWebhook, SlackWebhook
from prefect.types import SecretDict

from blocks.types import AlertChannel

#: The document's name; its type follows from the channel's form.
NAME = "medallion-alerts"


def notification(channel: AlertChannel) -> Block:
    """The notification block of an automation. The webhook's URL is a secret in it."""
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
