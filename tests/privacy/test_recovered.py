"""A recovery reads the source again, where an erased person may still be."""

import asyncio
import time

from flows.privacy.erase import erase
from flows.privacy.returned import erase_returned
from flows.verbs.recover import Agreed, recover
from flows.verbs.recovery import Asked
from flows.verbs.recovery_preview import look
from tests.conftest import TestDatabase
from tests.kinds.loading import rows
from tests.privacy.one_household import HOUSEHOLD, KEY


def test_an_erased_person_does_not_stay_after_a_recovery(held: TestDatabase) -> None:
    """Not even one that the source still has: the recovery says so, and that both ends differ by it."""
    asyncio.run(erase(HOUSEHOLD, KEY, despite_source=True))

    async def recovered(forget: object) -> int:
        plans = await look(["shop.households"], Asked())
        assert plans[0].steps, "the person is missing in raw"
        (done,) = await recover(plans, Asked(), Agreed("ada", "a test", time.monotonic()), forget)  # type: ignore[arg-type]
        return done.forgotten

    assert asyncio.run(recovered(erase_returned)) == 1
    assert rows(held, "select from raw_shop.households where household_id = 5") == []

    async def nobody(source: str, batches: list[int]) -> int:
        return 0

    asyncio.run(recovered(nobody))  # the control: without it, the person would be back
    assert len(rows(held, "select from raw_shop.households where household_id = 5")) == 1
