"""Failpoints: places where a test may kill the process, to prove that nothing is lost there.

`MEDALLION_FAILPOINT=after_copy medallion run shop` dies by SIGKILL, as a machine does: no handler, no cleanup.
"""

import os
import signal

# Every failpoint, in the order of a load; those of chunks apply to reads in chunks only, that of slices to lists of an
# API. A test visits each.
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
# The same for a swap of the models' schemas, and for the release and rollback around it.
SWAP_FAILPOINTS = (
    "in_swap_after_locks",
    "in_swap_before_commit",
    "after_swap",
)
# The same for erasing a person.
ERASURE_FAILPOINTS = ("erase_began", "erase_before_commit", "erase_between_roles")
# And for a recovery of a table.
RECOVERY_FAILPOINTS = ("recover_began", "recover_after_step", "recover_before_end")
# And for a rotation; the last is for the embedded stack, which keeps its URLs in two files.
ROTATION_FAILPOINTS = ("rotate_after_password", "rotate_between_files", "rotate_after_store")
# And for a refresh token that its server replaces.
TOKEN_FAILPOINTS = ("token_before_kept",)


def pass_failpoint(name: str, chosen: str) -> None:
    """Kill the process if this failpoint is configured."""
    others = (*ERASURE_FAILPOINTS, *RECOVERY_FAILPOINTS, *ROTATION_FAILPOINTS, *TOKEN_FAILPOINTS)
    if name not in (*FAILPOINTS, *SWAP_FAILPOINTS, *others):
        raise ValueError(f"{name} is not a failpoint; add it to FAILPOINTS")
    if chosen == name:
        os.kill(os.getpid(), signal.SIGKILL)
