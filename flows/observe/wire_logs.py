"""Logs of libraries that write what is sent and received: below WARNING they keep the event, and none of its values.

A response's headers have presigned URLs, cookies and tokens; HTTP/2 writes each header of a request, the key too; an
answer of Secrets Manager is a secret. A level does not keep them away, since anybody may set it, as with
PREFECT_LOGGING_ROOT_LEVEL. A filter of a logger does, but sees none of its children's records, so each has its own.
"""

import logging

_LIBRARIES = ("httpcore", "httpcore2", "hpack", "botocore", "urllib3")
# They are loaded only when they are needed.
_LATER = (
    *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")),
    *(f"httpcore2.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")),
    *(f"hpack.{part}" for part in ("hpack", "huffman", "table")),
    *(f"botocore.{part}" for part in ("auth", "endpoint", "hooks", "httpsession", "parsers", "retryhandler")),
    "urllib3.connectionpool",
)


class _EventsOnly(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            # `receive_response_headers.complete return_value=(…)`, `Adding %s to the header table`
            record.msg, record.args = str(record.msg).split(maxsplit=1)[0] if record.msg else "", ()
        return True


_ONLY_EVENTS = _EventsOnly()


def keep_values_out() -> None:
    """Put the filter on these libraries' loggers. Call it where a client is made; idempotent."""
    known = [name for name in list(logging.root.manager.loggerDict) if name.partition(".")[0] in _LIBRARIES]
    for name in {*known, *_LATER}:
        logging.getLogger(name).addFilter(_ONLY_EVENTS)  # one that is there is not added again
