"""Brokers for a Prefect server's events that keep only those that somebody reads later.

PREFECT_SERVER_EVENTS_MESSAGING_BROKER=infra.events.memory     one server process: the embedded stack, Compose
PREFECT_SERVER_EVENTS_MESSAGING_BROKER=infra.events.redis      several, which share a Redis

Every event still reaches automations, the recorder of task runs, and whoever subscribes.
"""
