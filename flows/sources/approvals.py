"""What waits for a person's approval, by environment: docs/decisions-by-people.md.

Approval("production", ("release", "repair", "deletes"), two_persons=True)
"""

APPROVALS = ()
