"""Which nodes of the dbt project a build has to build, because their code or what they read has changed."""
