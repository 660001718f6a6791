"""Blocks, work pools and limits at the Prefect API in force, as `medallion register`, `up` and `restore` make them."""

from __future__ import annotations


def registered() -> list[str]:
    """Register everything, and tell what became of each. Imports Prefect: the caller has pointed it."""
    from blocks.documents import register as register_blocks
    from deployments.register import register as register_deployments

    blocks = [f"{block.outcome:<9} block {block.name} ({block.kind})" for block in register_blocks()]
    return [*blocks, *register_deployments()]
