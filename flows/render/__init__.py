"""Files derived from the declared sources: declared once, rendered here, checked in CI.

dbt sources    dbt_project/models/staging/<source>/_sources.yml
Soda contracts soda/raw/<source>/<table>.yml; soda/gold/<table>.yml, from dbt's properties files
deployments    the marked parts of prefect.yaml
docs           docs/shape.md
"""

from flows.render.everything import check, render_all, write

__all__ = ["check", "render_all", "write"]
