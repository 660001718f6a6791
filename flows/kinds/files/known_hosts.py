"""Servers of SFTP whose keys are known."""

from __future__ import annotations

from pathlib import Path

from paramiko import HostKeys, MissingHostKeyPolicy, PKey, SSHClient, SSHException


class KnownHosts(MissingHostKeyPolicy):
    """A server is trusted if its key is in `~/.ssh/known_hosts`, as `ssh` has it."""

    def missing_host_key(self, client: SSHClient, hostname: str, key: PKey) -> None:
        """Refuse a server that is not known by this key.

        Raises:
            SSHException: nobody has said that this is the server.
        """
        file = Path("~/.ssh/known_hosts").expanduser()
        known = HostKeys(str(file)) if file.exists() else HostKeys()
        if not known.check(hostname, key):
            raise SSHException("the server's key is not in ~/.ssh/known_hosts")
