"""Brokers for a Prefect server's events that store only those that are read later.

PREFECT_SERVER_EVENTS_MESSAGING_BROKER=infra.events.memory     one server process: the embedded stack, Compose
PREFECT_SERVER_EVENTS_MESSAGING_BROKER=infra.events.redis      several, which share a Redis

Every event still reaches automations, the recorder of task runs, and whoever subscribes.
"""
