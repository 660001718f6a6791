"""The Pulumi program: `pulumi up --stack dev`."""

from infra.pulumi.program import provision

provision()
