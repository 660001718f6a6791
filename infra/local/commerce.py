"""The demo's commerce API as a detached process: what a vendor's API is in production."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from infra.local.service import Service, without

_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class CommerceApi(Service):
    """The API serving the state in `folder`. Its port: `MEDALLION_COMMERCE_PORT`, else a free one."""

    api_key: str = field(default="", repr=False)

    name: ClassVar[str] = "commerce API"
    port_variable: ClassVar[str] = "MEDALLION_COMMERCE_PORT"
    health_path: ClassVar[str] = "/healthz"

    def command(self, port: int) -> Sequence[str]:
        return [sys.executable, "-m", "demo.commerce", "--port", str(port), "--state", str(self.folder)]

    def environment(self, port: int) -> Mapping[str, str]:
        path = os.pathsep.join([str(_CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
        # The key goes by the environment: arguments are visible to everybody on the machine.
        return {**without("COMMERCE_"), "COMMERCE_API_KEY": self.api_key, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
