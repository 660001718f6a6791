"""Prefect blocks: where things are and the keys to them, for platforms that keep these in Prefect.

python -m blocks.documents     registers the types, and documents from the environment or the embedded stack
"""
