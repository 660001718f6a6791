"""Real receivers of alerts on this machine: they accept, refuse, hang, go away and come back."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller

from infra.local.ports import any_free


@dataclass
class Webhook:
    """An HTTP receiver. `answers` are given in turn, the last one for ever; `None` is a receiver that hangs."""

    port: int
    answers: list[int | None] = field(default_factory=lambda: [200])
    #: What was accepted, as JSON.
    accepted: list[Mapping[str, Any]] = field(default_factory=list)
    requests: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/secret-in-the-path"

    @property
    def events(self) -> list[str]:
        return [message["event"] for message in self.accepted]


@contextmanager
def webhook(port: int = 0, answers: list[int | None] | None = None) -> Iterator[Webhook]:
    """A receiver while the block lasts."""
    receiver = Webhook(port or any_free(), answers or [200])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.requests += 1
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = receiver.answers[0] if len(receiver.answers) == 1 else receiver.answers.pop(0)
            if answer is None:
                time.sleep(3)
                return
            if answer < 300:  # before the answer: who has it looks at once at what was accepted
                receiver.accepted.append({**content, "key": self.headers["Idempotency-Key"]})
            self.send_response(answer)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", receiver.port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Mailbox:
    """An SMTP server and the mail it took."""

    port: int
    mail: list[tuple[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"mailto://127.0.0.1:{self.port}?from=medallion@example.org&to=night@example.org&mode=insecure"


@contextmanager
def mailbox(port: int = 0) -> Iterator[Mailbox]:
    """A mail server while the block lasts."""
    box = Mailbox(port or any_free())

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
            mail = message_from_bytes(envelope.content, policy=policy.default)
            part = mail.get_body(("plain", "html"))
            box.mail.append((str(mail["Subject"]), part.get_content() if part else ""))
            return "250 accepted"

    controller = Controller(Handler(), hostname="127.0.0.1", port=box.port)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()
