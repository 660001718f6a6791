"""Change events of Debezium, from files of events."""

from flows.kinds.debezium.declared import Debezium, Encodings, EventTable
from flows.kinds.files import Manifest, Marker, Settled

__all__ = ["Debezium", "Encodings", "EventTable", "Manifest", "Marker", "Settled"]
