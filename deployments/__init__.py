"""What a Prefect server must hold before `prefect deploy --all`: work pools and concurrency limits.

python -m deployments.register
"""
