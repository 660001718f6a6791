"""What runs where, made so at a Prefect server.

    medallion deploy staging          plan, question, changes: deployments/deploy.py is the story
    python -m deployments.register    work pools, queues and limits alone, as `medallion up` makes them

environments    where each environment runs, and what starts by itself
declared        everything an environment asks of its server · reading, server: what it holds, and writing to it
plan            both compared · records: what was deployed, kept at the server
"""
