"""Register blocks, work pools and limits with the configured Prefect API: `medallion register`, `up` and `restore`."""

from __future__ import annotations


def registered() -> list[str]:
    """Register everything and return a line per resource. Imports Prefect: call `prepare` first."""
    from deployments.documents import register as register_blocks
    from deployments.register import register as register_deployments

    blocks = [f"{block.outcome:<9} block {block.name} ({block.kind})" for block in register_blocks()]
    return [*blocks, *register_deployments()]
