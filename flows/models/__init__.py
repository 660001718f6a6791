"""Around the dbt project: builds beside the shared one, and what is known of models and their columns."""
