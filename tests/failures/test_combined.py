"""Several errors in one: each cause once, and the most severe decides."""

import pickle

from flows.failures.combined import by_cause, combined, distinct
from flows.values.errors import ConfigurationError, DataRefused, FailureClass, SourceUnavailable


def down(path: str = "") -> SourceUnavailable:
    what = f"no connection for GET {path} (ConnectError)" if path else "the connection to the source failed"
    return SourceUnavailable(what, where=path, fix="check that it is up", retryable=True)


def test_equal_errors_are_told_once_with_their_count() -> None:
    errors = {f"shop.{name}": down() for name in "abcdef"}
    error = combined(errors, "6 tables were not loaded", where="source shop")
    assert error.what == (
        "6 tables were not loaded (6 times (shop.a, shop.b, shop.c, shop.d, shop.e and 1 more): "
        "the connection to the source failed)"
    )
    assert error.fix == "check that it is up"
    assert (error.retryable, error.failure_class) == (True, FailureClass.TRANSIENT)
    assert len(distinct(errors.values())) == 1


def test_one_cause_in_two_sources_is_one_cause() -> None:
    shop = combined({"shop.a": down(), "shop.b": down()}, "2 tables were not loaded", where="source shop")
    both = combined({"shop": shop, "erp": down()}, "2 parts failed", where="pipeline")
    assert both.what == "2 parts failed (3 times (shop.a, shop.b, erp): the connection to the source failed)"
    again = pickle.loads(pickle.dumps(both))  # noqa: S301 - as it crosses a process
    assert again.what == both.what


def test_endpoints_of_an_api_that_is_down_are_one_cause() -> None:
    causes = by_cause({"a": down("/v1/a"), "b": down("/v1/b")})
    assert causes == {"no connection for GET … (ConnectError)": ["a", "b"]}
    assert list(by_cause({"a": down("/v1/a")})) == ["no connection for GET /v1/a (ConnectError)"]


def test_the_class_that_needs_a_person_most_decides_and_a_retry_must_help_all() -> None:
    refused = DataRefused("too many", where="x", fix="look")
    wrong = ConfigurationError("no password", where="x", fix="set it")
    error = combined({"a": down(), "b": refused, "c": wrong}, "3 failed", where="x", also="; d differs")
    assert (error.failure_class, error.retryable, error.exit_code) == (FailureClass.PERMANENT, False, 3)
    assert error.fix == "set it; look; check that it is up"
    assert error.what.endswith("c: no password); d differs")
