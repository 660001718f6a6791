"""Every kind of source keeps every promise."""

from collections.abc import Callable

import pytest

from tests.kinds.conformance.end import Fixture
from tests.kinds.conformance.given import Given
from tests.kinds.conformance.kinds import FIXTURES
from tests.kinds.conformance.promises import PROMISES, Promise


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("kind", FIXTURES)
async def test_a_kind_of_source_keeps_its_promise(
    begin: Callable[[Fixture], Given], kind: str, promise: Promise
) -> None:
    await promise(begin(FIXTURES[kind]))
