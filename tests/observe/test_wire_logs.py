"""Libraries that log what travels keep the event, and none of its values."""

import logging

import pytest

from flows.observe.wire_logs import keep_values_out


@pytest.mark.parametrize(
    ("logger", "message", "values"),
    [
        ("httpcore.http11", "receive_response_headers.complete return_value=[(b'Location', b'canary')]", ()),
        ("httpcore.proxy", "connect_tcp.started host='canary'", ()),
        ("hpack.hpack", "Adding %s to the header table", ("canary",)),
        ("hpack.table", "Evicting %s: %s from the header table", ("authorization", "canary")),
        ("botocore.parsers", "Response body:\n%s", ("canary",)),
        ("urllib3.connectionpool", '%s "GET %s"', ("https://example.com", "/x?key=canary")),
    ],
)
def test_a_value_is_in_no_log_at_whatever_level(
    caplog: pytest.LogCaptureFixture, logger: str, message: str, values: tuple[str, ...]
) -> None:
    keep_values_out()
    keep_values_out()
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, logger=logger):
        logging.getLogger(logger).debug(message, *values)
    assert [record.getMessage() for record in caplog.records] == [message.split()[0]]
    assert "canary" not in caplog.text


def test_warnings_are_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    keep_values_out()
    logging.getLogger("urllib3.connectionpool").warning("Retrying after %s", "a reset")
    assert "Retrying after a reset" in caplog.text
