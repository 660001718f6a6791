"""Headers that are sent with requests. None of them is a credential."""

import re
from collections.abc import Sequence

from flows.values.errors import DeclarationError

Headers = tuple[tuple[str, str], ...]
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def refuse_headers(headers: Sequence[tuple[str, str]], where: str) -> None:
    """Refuse headers that are none, and credentials.

    Raises:
        DeclarationError: there is one.
    """
    for name, _ in headers:
        if name.lower() in ("authorization", "cookie", "proxy-authorization"):
            raise DeclarationError(
                f"{name} is a credential, and declarations must not contain credentials",
                where=where,
                fix="declare auth=, and set the key in the environment or a block",
            )
        if not _NAME.fullmatch(name):
            raise DeclarationError(
                f"{name!r} is not the name of a header", where=where, fix='write headers=(("X-Tenant", "eu"),)'
            )
