"""What is derived from the declared sources: said once there, rendered here, checked in CI.

dbt sources    dbt_project/models/staging/<source>/_sources.yml
Soda contracts soda/raw/<source>/<table>.yml
deployments    the marked parts of prefect.yaml
docs           docs/shape.md
"""

from flows.render.everything import check, render_all, write

__all__ = ["check", "render_all", "write"]
