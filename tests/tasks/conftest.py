"""Tasks are tried inside the flows that call them, with what tests of flows begin with."""

from tests.flows.conftest import ends, marketing_api

__all__ = ["ends", "marketing_api"]
