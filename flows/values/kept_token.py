"""Tokens that are kept between runs: a refresh token that its server replaces with every use."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class KeptToken:
    """The refresh token that is valid now, and the access token that came with it.

    `seed` is a fingerprint of the configured token that it descends from. `former` is what was kept for another one: a
    token that was configured by mistake must not cost the one that works.
    `renew_at` is a Unix time. `attempted_at` is the time of an exchange whose answer has not been kept, or 0: the
    server may have replaced `refresh_token` since.
    """

    seed: str
    refresh_token: str = field(repr=False)
    access_token: str = field(default="", repr=False)
    renew_at: float = 0.0
    attempted_at: float = 0.0
    former: KeptToken | None = None

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> KeptToken:
        """From JSON."""
        known = {name: facts[name] for name in cls.__slots__ if name in facts}
        if known.get("former") is not None:
            known["former"] = cls.of(known["former"])
        return cls(**known)

    def of_seed(self, seed: str) -> KeptToken | None:
        """What is kept for a configured token; it remembers what is kept for the other one."""
        if self.seed == seed:
            return self
        if self.former is not None and self.former.seed == seed:
            return replace(self.former, former=replace(self, former=None))
        return None


class TokenKeeper(Protocol):
    """The place where a token is kept: that of the credential, so that it is as safe, and as durable."""

    @property
    def where(self) -> str:
        """The place, for messages."""
        ...

    def alone(self) -> AbstractAsyncContextManager[None]:
        """Hold the only right to exchange the token, among all runs. Any death of this process releases it."""
        ...

    def read(self) -> KeptToken | None:
        """What is kept; None if nothing is."""
        ...

    def write(self, kept: KeptToken) -> None:
        """Keep it durably. Never awaits, so that no cancellation comes between a server's answer and its keeping."""
        ...
