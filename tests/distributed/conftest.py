"""The Prefect server that the tests of deployments share: one of its own, full of automations."""

from tests.deployments.conftest import api, server_of_our_own

__all__ = ["api", "server_of_our_own"]
