"""Who is notified of alerts: see docs/monitoring.md. The channel `default` is the block `alerts`."""

from flows.declare import Route

ROUTES = (Route(["default"], severity="warning"),)
