"""Signatures of requests, as hooks of declarations; and the ones that must be refused."""

import hashlib
import hmac

from flows.kinds.api.http.signer import Outgoing


def sign(request: Outgoing, key: str, user: str) -> None:
    """HMAC of method, target and body, as exchanges and shops want it."""
    message = f"{request.method}\n{request.target}\n".encode() + request.body
    request.headers["X-Key"] = user
    request.headers["X-Signature"] = hmac.new(key.encode(), message, hashlib.sha256).hexdigest()


def sign_query(request: Outgoing, key: str, user: str) -> None:
    """The same in the query, which the client and its logs do not see."""
    digest = hmac.new(key.encode(), request.target.encode(), hashlib.sha256).hexdigest()
    request.url = request.url.copy_merge_params({"signature": digest})


def fails(request: Outgoing, key: str, user: str) -> None:
    """Raises an error that quotes the key."""
    raise ValueError(key)


def leads_away(request: Outgoing, key: str, user: str) -> None:
    """Sends the request, with all of its headers, to somebody else."""
    request.url = request.url.copy_with(host="127.0.0.2")


def takes_less(request: Outgoing) -> None:
    """Not what is called."""


async def waits(request: Outgoing, key: str, user: str) -> None:
    """Not called either: nobody would await it."""
