"""AWS for the blocks: moto's server."""

from tests.moto_aws import aws, moto

__all__ = ["aws", "moto"]
