"""Access to a folder for other accounts: none, or one that may traverse it.

Where root starts PostgreSQL, the account it runs as passes through the home by an access list that names it alone. The
mode of such a folder shows 0710: its group bits are then the most that the list may grant, and the group has nothing.
"""

import os
import stat
import struct
from pathlib import Path

# The kernel's layout of an access list (linux/posix_acl_xattr.h): a version, then (tag, permission, id) each.
_ATTRIBUTE = "system.posix_acl_access"
_VERSION = struct.pack("<I", 2)
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NOBODY_IN_PARTICULAR = 0xFFFFFFFF
_TRAVERSE = 1

AccessList = dict[tuple[int, int], int]


def close_tree(root: Path, but: Path) -> None:
    """Take every right from group and others, in `root` and all below it that is ours; `but` is left as it is.

    What runs meanwhile may take files away. Raises OSError.
    """
    _close(root)
    for folder, names, files in os.walk(root):
        inside = Path(folder)
        names[:] = [name for name in names if inside / name != but]
        for name in (*names, *files):
            try:
                _close(inside / name)
            except FileNotFoundError:
                continue


def let_traverse(folder: Path, uid: int) -> None:
    """Let the account pass through the folder. Raises OSError, AttributeError where no access lists are known."""
    entries = _access_list(folder)
    entries[_USER, uid] = entries.get((_USER, uid), 0) | _TRAVERSE
    # The mask caps every named entry: keep what the group could do, and let traversing through.
    group = entries[_GROUP_OBJ, _NOBODY_IN_PARTICULAR]
    entries[_MASK, _NOBODY_IN_PARTICULAR] = entries.get((_MASK, _NOBODY_IN_PARTICULAR), group) | _TRAVERSE
    _set(folder, entries)


def _close(path: Path) -> None:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode) or found.st_uid != os.geteuid() or not found.st_mode & 0o077:
        return
    entries = _access_list(path) if stat.S_ISDIR(found.st_mode) else {}
    if not any(tag == _USER for tag, _ in entries):
        path.chmod(found.st_mode & 0o700)
        return
    # By its mode alone the account of PostgreSQL would lose its passage, and the group might keep one.
    closed = (_GROUP_OBJ, _GROUP, _OTHER)
    kept = {
        key: 0 if key[0] in closed else bits & (_TRAVERSE if key[0] != _USER_OBJ else 7)
        for key, bits in entries.items()
    }
    if kept != entries:
        _set(path, kept)


def _set(folder: Path, entries: AccessList) -> None:
    packed = b"".join(struct.pack("<HHI", tag, bits, who) for (tag, who), bits in sorted(entries.items()))
    os.setxattr(folder, _ATTRIBUTE, _VERSION + packed)


def _access_list(folder: Path) -> AccessList:
    try:
        packed = os.getxattr(folder, _ATTRIBUTE)
    except (OSError, AttributeError):
        mode = folder.stat().st_mode
        return {
            (_USER_OBJ, _NOBODY_IN_PARTICULAR): mode >> 6 & 7,
            (_GROUP_OBJ, _NOBODY_IN_PARTICULAR): mode >> 3 & 7,
            (_OTHER, _NOBODY_IN_PARTICULAR): mode & 7,
        }
    return {(tag, who): bits for tag, bits, who in struct.iter_unpack("<HHI", packed[4:])}
