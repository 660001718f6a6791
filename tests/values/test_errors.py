"""Errors tell what, where, the next move and whether a retry helps; and go whole from one process to another."""

import pickle

import pytest

from flows.values import errors
from flows.values.errors import (
    ConfigurationError,
    DataRefused,
    DeclarationError,
    FailureClass,
    LoadLocked,
    MedallionError,
    RateLimited,
    SchemaDrift,
    SourceError,
    SourceUnavailable,
    WarehouseError,
)

KINDS = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MedallionError)),
    key=lambda kind: kind.__name__,
)


def test_an_error_reads_as_where_what_retry_and_next_move() -> None:
    error = SourceUnavailable("it sleeps", where="shop.baskets", fix="wake it", retryable=True)
    assert str(error) == "shop.baskets: it sleeps; fix: wake it; retryable: yes"
    assert str(DataRefused("bad", where="x", fix="correct it")) == "x: bad; fix: correct it; retryable: no"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_crosses_a_process_boundary_whole(kind: type[MedallionError]) -> None:
    """Task runners pickle exceptions; one whose arguments are keywords would arrive as a TypeError."""
    error = kind("what", where="where", fix="next", retryable=True)
    error.__dict__["error_id"] = "E-1"
    error.failure_class = FailureClass.RESOURCE
    arrived = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(arrived) is kind
    assert str(arrived) == str(error)
    assert arrived.args == error.args
    assert vars(arrived) == vars(error)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (DataRefused, 1),
        (SchemaDrift, 1),
        (DeclarationError, 2),
        (ConfigurationError, 3),
        (SourceError, 3),
        (RateLimited, 3),
        (WarehouseError, 3),
        (LoadLocked, 3),
        (MedallionError, 3),
    ],
)
def test_each_kind_ends_the_command_with_its_documented_code(kind: type[MedallionError], code: int) -> None:
    assert kind.exit_code == code


def test_the_tree_at_the_top_of_the_file_names_every_kind() -> None:
    assert [kind.__name__ for kind in KINDS if kind.__name__ not in str(errors.__doc__)] == []
