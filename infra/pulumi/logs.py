"""Log groups, created before their writers: AWS would create them unencrypted, and keep logs forever."""

from collections.abc import Iterator

import pulumi
from pulumi_aws import cloudwatch, kms

from infra.pulumi.naming import Component, Place
from infra.pulumi.permissions import Allow
from infra.pulumi.stack import LogSettings

SERVER, WORKER, FLOW_RUNS, ROLES, NETWORK = "prefect-server", "worker", "flow-runs", "roles", "network"
WATCH = "watch"


class Logs(Component):
    """`groups` holds ours by name; those of RDS are there for RDS to find."""

    def __init__(self, place: Place, settings: LogSettings, *, key: kms.Key, databases: tuple[str, ...]) -> None:
        super().__init__("Logs", place)
        self._settings, self._key = settings, key
        self.groups = {
            name: self._group(name, f"/{place.prefix}/{name}")
            for name in (SERVER, WORKER, FLOW_RUNS, ROLES, NETWORK, WATCH)
        }
        for database in databases:
            for kind in ("postgresql", "upgrade"):
                self._group(f"{database}-{kind}", f"/aws/rds/instance/{place.prefix}-{database}/{kind}")
        self._group("rotation", f"/aws/lambda/{place.prefix}-rotation")
        self.register_outputs({})

    def may_write(self, name: str) -> Iterator[Allow]:
        """Statements for a role that writes streams into one group."""
        yield Allow(("logs:CreateLogStream", "logs:PutLogEvents"), (pulumi.Output.concat(self.groups[name].arn, ":*"),))

    def may_read(self, name: str) -> Iterator[Allow]:
        """Statements for a role that reads one group, as the observer does for runs that crashed."""
        yield Allow(("logs:GetLogEvents",), (pulumi.Output.concat(self.groups[name].arn, ":*"),))

    def _group(self, name: str, full_name: str) -> cloudwatch.LogGroup:
        return cloudwatch.LogGroup(
            f"{self.place.prefix}-{name}",
            name=full_name,
            retention_in_days=self._settings.retention_days,
            kms_key_id=self._key.arn,
            opts=self.inside,
        )
