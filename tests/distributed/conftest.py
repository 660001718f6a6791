"""The Prefect server that the tests of deployments share: one of its own, full of automations."""

from tests.deployments.conftest import api

__all__ = ["api"]
