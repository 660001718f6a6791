"""What can go wrong with the embedded stack.

StackError
├── NotUp               nothing runs here yet, or no longer
├── NotOurs             somebody else answers where the stack's server is recorded
├── PortTaken           somebody else listens on the configured port
├── DiskFull            too little room, or none
├── FolderUnusable      a folder cannot be written, or not be reached by the account that needs it
└── ServiceFailed       a program did not start, or died
"""

from flows.values.errors import FailureClass, MedallionError


class StackError(MedallionError):
    """The embedded stack cannot do what was asked."""


class NotUp(StackError):
    """The stack, or the part asked for, is not running."""


class NotOurs(StackError):
    """Somebody else answers where the stack's server is recorded; nothing was sent to it."""


class PortTaken(StackError):
    """Somebody else listens on a configured port."""

    failure_class = FailureClass.RESOURCE


class DiskFull(StackError):
    """The file system that holds the stack has too little room, or none."""

    failure_class = FailureClass.RESOURCE


class FolderUnusable(StackError):
    """A folder cannot be written, or cannot be reached by the account that must."""


class ServiceFailed(StackError):
    """A program of the stack did not start, or died."""
