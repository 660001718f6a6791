"""Deployment of environments to Prefect servers.

    medallion deploy staging          plan, confirmation, changes: deployments/deploy.py
    python -m deployments.register    work pools, queues and limits only, as in `medallion up`

environments    where each environment runs, and what starts automatically
declared        the declared resources of an environment · reading, server: those of the server, and writing to it
plan            the comparison of both · records: deployed versions, stored at the server
"""
