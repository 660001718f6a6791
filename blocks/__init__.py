"""Prefect blocks: connection URLs and credentials, for platforms that keep these in Prefect.

python -m deployments.documents     registers the types, and documents from the environment or the embedded stack
"""
