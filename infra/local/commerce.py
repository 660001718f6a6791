"""The demo's commerce API as a detached process."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from infra.local.service import Service, finds_checkout, without


@dataclass(frozen=True)
class CommerceApi(Service):
    """The API serving the state in `folder`. Its port: `MEDALLION_COMMERCE_PORT`, else a free one.

    Its secret is the key that callers send.
    """

    name: ClassVar[str] = "commerce API"
    port_variable: ClassVar[str] = "MEDALLION_COMMERCE_PORT"

    def command(self, fd: int) -> Sequence[str]:
        return [sys.executable, "-m", "demo.commerce", "--fd", str(fd), "--state", str(self.folder)]

    def environment(self, port: int) -> Mapping[str, str]:
        # The key goes by the environment: arguments are visible to everybody on the machine.
        return {**without("COMMERCE_"), "COMMERCE_API_KEY": self.secret, **finds_checkout(), "PYTHONUNBUFFERED": "1"}
