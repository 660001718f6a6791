"""Metrics that are pushed, and what is said of a receiver that does not accept them."""

from __future__ import annotations

from flows.operations.metrics_push import Push
from tests.operations.gateways import gateway


async def test_a_gateway_receives_them_and_what_it_says_is_told_without_its_address() -> None:
    with gateway() as receiver:
        push = Push(receiver.url)
        assert await push.send(b"a 1\n") is None
        [(path, authorization, body)] = receiver.taken
        assert (path, authorization[:6], body) == ("/metrics/job/medallion", "Basic ", "a 1\n")
        receiver.answers = [302]
        assert await push.send(b"a 1\n") == "answer 302", "metrics and password follow nobody elsewhere"
        await push.close()
    problem = await push.send(b"a 1\n")
    assert problem == "ConnectError"
    await push.close()
    assert "s3cret" not in repr(push)
