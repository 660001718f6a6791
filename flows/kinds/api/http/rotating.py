"""Refresh tokens that their server replaces with every use.

Whoever loses the replacement loses access for good, until a person authorises the app again. So:

    before   one run at a time, among all machines; the note that an exchange begins is kept first, which also shows
             that something can be kept, before the token is spent
    after    the replacement is kept durably before anything uses what came with it, and nothing awaits in between
    then     other runs use the kept access token until it expires, so tokens are replaced as rarely as possible
    killed   the note is there: the next run tries the same refresh token again, which servers with a grace period
             accept (Xero: 30 minutes), and otherwise says what has happened and what to do
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import httpx

from flows.access.kept_tokens import before_kept
from flows.kinds.api.http.failure import AttemptFailed, token_variable
from flows.kinds.api.http.grants import Granted, Refreshed, Token, identity_of, refresh_token_in
from flows.kinds.api.http.limits import HttpLimits
from flows.kinds.api.http.oauth import TokenSigner
from flows.values.errors import ConfigurationError, MedallionError
from flows.values.kept_token import KeptToken, TokenKeeper

# How long keeping a replacement is tried: it exists nowhere else.
_KEEPING_PAUSES = (0.1, 0.3, 1.0, 3.0)
# Replacements that could not be kept: the next exchange in this process keeps them first.
_unkept: dict[str, KeptToken] = {}
_unkept_lock = threading.Lock()


class RotatingSigner(TokenSigner):
    """Signs with an access token of a refresh token that may be replaced."""

    def __init__(
        self, flow: Refreshed, keeper: TokenKeeper, transport: httpx.AsyncBaseTransport, limits: HttpLimits
    ) -> None:
        super().__init__(flow, transport, limits)
        self._refreshed, self._keeper = flow, keeper
        # The token alone: a token URL that is written differently must not discard what replaced it.
        self._seed = identity_of(flow.refresh_token)

    async def _grant(self, refused: str) -> Token:
        exchange = asyncio.create_task(self._exchange(refused))
        try:
            return await asyncio.shield(exchange)
        except asyncio.CancelledError:
            # The answer under way has the only refresh token that is valid from now on.
            await asyncio.wait((exchange,), timeout=self._limits.request_seconds)
            raise

    async def _exchange(self, refused: str) -> Token:
        try:
            async with self._keeper.alone():
                kept = self._kept()
                if kept.access_token and kept.access_token != refused and time.time() < kept.renew_at:
                    return Token(kept.access_token, time.monotonic() + kept.renew_at - time.time())
                self._keeper.write(replace(kept, attempted_at=kept.attempted_at or time.time()))
                try:
                    content, headers = await self._ask(self._refreshed.exchange(kept.refresh_token))
                    granted = self._granted(kept, content, headers)
                except AttemptFailed as failed:
                    failure = self._explained(failed, kept)
                else:
                    # No await from here on.
                    before_kept()
                    self._keep(kept, granted)
                    return granted.as_token()
                raise failure
        except MedallionError as problem:
            failure = AttemptFailed(problem.what, problem.fix, kind=type(problem), again=problem.retryable)
        raise failure

    def _granted(self, kept: KeptToken, content: bytes, headers: httpx.Headers) -> Granted:
        """What the server granted. A replacement is kept even if the rest of the answer is of no use.

        Raises:
            AttemptFailed: there is no access token.
        """
        try:
            return self._refreshed.granted(content, headers)
        except AttemptFailed as failed:
            failure = failed
        if replacement := refresh_token_in(content):
            self._keep(kept, Granted("", 0.0, replacement))
        raise failure

    def _kept(self) -> KeptToken:
        """What is valid now: a replacement that is not kept yet, the kept one, or the configured one."""
        with _unkept_lock:
            unkept = _unkept.get(self._seed)
        if unkept is not None:
            self._keeper.write(unkept)
            with _unkept_lock:
                _unkept.pop(self._seed, None)
            return unkept
        present = self._keeper.read()
        kept = None if present is None else present.of_seed(self._seed)
        if kept is not None:
            return kept
        # One that has never worked is not worth remembering.
        if present is not None:
            present = replace(present, former=None) if present.access_token else present.former
        return KeptToken(self._seed, self._refreshed.refresh_token, former=present)

    def _keep(self, before: KeptToken, granted: Granted) -> None:
        replaced = KeptToken(
            self._seed,
            granted.refresh_token or before.refresh_token,
            granted.token,
            time.time() + granted.seconds,
            former=before.former,
        )
        if self._is_newer_kept(before):
            return
        with _unkept_lock:
            _unkept[self._seed] = replaced
        problem: MedallionError | None = None
        for pause in (*_KEEPING_PAUSES, 0.0):
            try:
                self._keeper.write(replaced)
            except MedallionError as refusal:
                problem = refusal
                time.sleep(pause)  # nothing may await before it is kept
            else:
                with _unkept_lock:
                    _unkept.pop(self._seed, None)
                return
        assert problem is not None
        raise ConfigurationError(
            f"the new refresh token cannot be kept: {problem.what}",
            where=self._keeper.where,
            fix=f"{problem.fix}; if this process ends before it is kept, authorise the app again and set "
            f"{token_variable(self._refreshed.api)}",
        )

    def _is_newer_kept(self, before: KeptToken) -> bool:
        """Whether another run has exchanged the token since, because this one has lost its lock meanwhile."""
        try:
            present = self._keeper.read()
        except MedallionError:
            return False
        kept = None if present is None else present.of_seed(self._seed)
        return kept is not None and kept.refresh_token != before.refresh_token

    def _explained(self, failed: AttemptFailed, kept: KeptToken) -> AttemptFailed:
        """What a failed exchange means. If the server has surely not replaced the token, the note is taken back."""
        if failed.status not in (400, 401, 403):
            return failed
        if self._is_newer_kept(kept):
            # This run has lost its lock: what it knows is the past, and must not replace what is valid.
            return AttemptFailed(
                f"another run has exchanged the refresh token meanwhile ({failed.what})",
                "nothing: the next attempt uses what that run has kept",
                again=True,
                status=failed.status,
            )
        if failed.code != "invalid_grant":
            self._keeper.write(kept)
            return failed
        variable = token_variable(self._refreshed.api)
        fix = f"authorise the app again, and set {variable} (or the token of the block or secret) to its refresh token"
        if kept.attempted_at:
            since = f"{datetime.fromtimestamp(kept.attempted_at, UTC):%Y-%m-%d %H:%M} UTC"
            what = (
                f"the refresh token is not valid any more: a run that began to exchange it at {since} ended before the "
                "answer was kept"
            )
        elif kept.access_token:
            self._keeper.write(kept)
            what = "the kept refresh token has expired, was revoked, or was used by another program"
        else:
            self._keeper.write(kept)
            what = f"the refresh token in {variable} has expired, was revoked, or was used by another program"
        return AttemptFailed(f"{what} ({failed.what})", fix, kind=ConfigurationError, status=failed.status)
