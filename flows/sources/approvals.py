"""What waits for a person's approval, by environment: docs/decisions-by-people.md.

Approval("production", ("release", "repair", "deletes"), two_persons=True)
"""

from flows.declare import Approval

APPROVALS: tuple[Approval, ...] = ()
