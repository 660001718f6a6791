"""Errors of the embedded stack.

StackError
├── NotUp               the stack is not running
├── NotOurs             another server responds on the recorded port
├── PortTaken           another program listens on the configured port
├── DiskFull            too little disk space
├── FolderUnusable      a folder is not writable, or not accessible for its account
└── ServiceFailed       a program did not start, or died
"""

from flows.values.errors import FailureClass, MedallionError


class StackError(MedallionError):
    """The embedded stack failed."""


class NotUp(StackError):
    """The stack, or the requested part, is not running."""


class NotOurs(StackError):
    """Another server responds on the recorded port; nothing was sent to it."""


class PortTaken(StackError):
    """Another program listens on a configured port."""

    failure_class = FailureClass.RESOURCE


class DiskFull(StackError):
    """The file system of the stack has too little space."""

    failure_class = FailureClass.RESOURCE


class FolderUnusable(StackError):
    """A folder is not writable, or not accessible for its account."""


class ServiceFailed(StackError):
    """A program of the stack did not start, or died."""
