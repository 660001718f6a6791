"""Tools around the dbt project: shadow builds, releases, lineage, conventions and documentation."""
