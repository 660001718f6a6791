"""Shared properties of a stack's resources: name prefix, account and region, and tags."""

from dataclasses import dataclass
from functools import cached_property

import pulumi
from pulumi_aws import Provider, get_caller_identity_output, get_region_output


@dataclass(frozen=True)
class Place:
    """A stack's account and region, as outputs, and its prefix `medallion-<stack>`."""

    stack: str
    provider: Provider

    @property
    def prefix(self) -> str:
        """The beginning of every name in AWS."""
        return f"medallion-{self.stack}"

    @cached_property
    def account(self) -> pulumi.Output[str]:
        """The account's number, twelve digits."""
        return get_caller_identity_output(opts=pulumi.InvokeOutputOptions(provider=self.provider)).account_id

    @cached_property
    def region(self) -> pulumi.Output[str]:
        """The region's name, such as eu-central-1."""
        return get_region_output(opts=pulumi.InvokeOutputOptions(provider=self.provider)).region

    def arn(self, service: str, resource: pulumi.Input[str]) -> pulumi.Output[str]:
        """The ARN of something in this account and region, by its name alone."""
        return pulumi.Output.format("arn:aws:{0}:{1}:{2}:{3}", service, self.region, self.account, resource)


class Component(pulumi.ComponentResource):
    """A group of resources with one concern; its children are given the stack's provider by being its children."""

    def __init__(self, kind: str, place: Place, *, name: str = "") -> None:
        super().__init__(
            f"medallion:aws:{kind}",
            f"{place.prefix}-{name}" if name else place.prefix,
            None,
            pulumi.ResourceOptions(providers={"aws": place.provider}),
        )
        self.place = place
        self.inside = pulumi.ResourceOptions(parent=self)


def default_tags(stack: str, owner: str) -> dict[str, str]:
    """The tags that the provider puts on everything that can carry tags."""
    return {"project": "medallion", "stack": stack, "owner": owner, "managed-by": "pulumi"}
