"""Declarations shared by every kind of source. Frozen, and validated when they are created."""

from flows.declare.ask import Approval, Ask
from flows.declare.budget import Budget
from flows.declare.cursor import Epoch, Sequence, Timestamp, TransactionId
from flows.declare.deadline import Calendar, Deadline
from flows.declare.freshness import Freshness
from flows.declare.load import Append, Merge, Overwrite, Replace
from flows.declare.log import Log
from flows.declare.mask import Hashed, Masked
from flows.declare.retention import Keep
from flows.declare.route import QuietHours, Route
from flows.declare.rule import Rule
from flows.declare.subject import KeyPath, Subject
from flows.declare.triggers import Triggers

__all__ = [
    "Append",
    "Approval",
    "Ask",
    "Budget",
    "Calendar",
    "Deadline",
    "Epoch",
    "Freshness",
    "Hashed",
    "Keep",
    "KeyPath",
    "Log",
    "Masked",
    "Merge",
    "Overwrite",
    "QuietHours",
    "Replace",
    "Route",
    "Rule",
    "Sequence",
    "Subject",
    "Timestamp",
    "TransactionId",
    "Triggers",
]
