"""Places where a test may kill the process, to prove that nothing is lost there.

`MEDALLION_FAILPOINT=after_copy medallion run shop` dies by SIGKILL, as a machine does: no handler, no cleanup.
"""

import os
import signal

# Every place, in the order a load passes them; those of chunks are passed by reads in chunks only, that of slices by
# lists of an API. A test visits each.
FAILPOINTS = (
    "after_lock",
    "after_load_opened",
    "after_landing_created",
    "in_chunk_before_commit",
    "after_slice_commit",
    "after_chunk_commit",
    "after_copy",
    "after_check",
    "in_publish_before_rows",
    "in_publish_after_rows",
    "in_publish_before_commit",
    "after_commit",
)
# The same of an exchange of the models' schemas, and of a release and a rollback around it.
EXCHANGE_FAILPOINTS = (
    "in_exchange_after_locks",
    "in_exchange_before_commit",
    "after_exchange",
)
# The same for erasing a person.
ERASURE_FAILPOINTS = ("erase_began", "erase_before_commit", "erase_between_roles")
# And for a rotation; the last is passed where the embedded stack keeps its addresses in two files.
ROTATION_FAILPOINTS = ("rotate_after_password", "rotate_between_files", "rotate_after_store")


def pass_failpoint(name: str, chosen: str) -> None:
    """Die here if this is the chosen place."""
    if name not in (*FAILPOINTS, *EXCHANGE_FAILPOINTS, *ERASURE_FAILPOINTS, *ROTATION_FAILPOINTS):
        raise ValueError(f"{name} is not a failpoint; add it to FAILPOINTS")
    if chosen == name:
        os.kill(os.getpid(), signal.SIGKILL)
