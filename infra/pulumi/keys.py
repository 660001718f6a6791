"""Keys: one for data, one for secrets, one for logs, one for events. All of them rotate every year."""

import pulumi
from pulumi_aws import kms

from infra.pulumi.naming import Component, Place
from infra.pulumi.permissions import Allow, document


class Keys(Component):
    """Four customer keys. Who may read data may not by that read secrets."""

    def __init__(self, place: Place) -> None:
        super().__init__("Keys", place)
        self.data = self._key("data", "Databases, cache and the data lake")
        self.secrets = self._key("secrets", "Secrets Manager")
        # The services that write encrypted logs and events need the key themselves, for this account's only.
        self.logs = self._key(
            "logs",
            "CloudWatch logs",
            Allow(
                (
                    "kms:Decrypt",
                    "kms:DescribeKey",
                    "kms:Encrypt",
                    "kms:GenerateDataKey",
                    "kms:ReEncryptFrom",
                    "kms:ReEncryptTo",
                ),
                ("*",),
                services=(pulumi.Output.format("logs.{0}.amazonaws.com", place.region),),
                when={
                    "ArnLike": {
                        "kms:EncryptionContext:aws:logs:arn": [
                            place.arn("logs", f"log-group:/{place.prefix}/*"),
                            place.arn("logs", f"log-group:/aws/rds/instance/{place.prefix}-*"),
                            place.arn("logs", f"log-group:/aws/lambda/{place.prefix}-*"),
                        ]
                    }
                },
            ),
        )
        self.events = self._key(
            "events",
            "Queues and alarms",
            Allow(
                ("kms:Decrypt", "kms:GenerateDataKey"),
                ("*",),
                services=("events.amazonaws.com", "cloudwatch.amazonaws.com", "budgets.amazonaws.com"),
                when={"StringEquals": {"aws:SourceAccount": place.account}},
            ),
        )
        self.register_outputs({})

    def _key(self, name: str, description: str, *more: Allow) -> kms.Key:
        account = pulumi.Output.format("arn:aws:iam::{0}:root", self.place.account)
        key = kms.Key(
            f"{self.place.prefix}-{name}",
            description=f"{description} of {self.place.prefix}",
            enable_key_rotation=True,
            deletion_window_in_days=30,
            policy=document(Allow(("kms:*",), ("*",), principals=(account,)), *more),
            opts=self.inside,
        )
        kms.Alias(
            f"{self.place.prefix}-{name}",
            name=f"alias/{self.place.prefix}/{name}",
            target_key_id=key.key_id,
            opts=self.inside,
        )
        return key
