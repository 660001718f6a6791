"""The story of a stack, top to bottom: `pulumi up --stack dev`."""

from infra.pulumi.program import provision

provision()
