"""A FHIR R4 server, as documented, into raw: Bundles, and pages that are forgotten."""

from dataclasses import replace

import pytest

from flows.publish.session import LoadResult
from flows.values.errors import ConfigurationError
from tests.conftest import TestDatabase
from tests.kinds.api.servers.declared import FHIR
from tests.kinds.api.servers.fhir import TOKEN, Fhir, consent, observation, patient
from tests.kinds.api.servers.imitation import cut_unseen, refuse
from tests.kinds.api.servers.reading import load, load_and_kill, raw_records
from tests.kinds.loading import open_quarantine

PATIENTS = "raw_clinic.patients"


async def load_resources(warehouse: TestDatabase, fhir: Fhir, endpoint: str = "patients") -> LoadResult:
    return await load(warehouse, FHIR, f"{fhir.url}/fhir", endpoint, TOKEN)


def filled(fhir: Fhir, number: int = 110) -> None:
    fhir.put(*(patient(n, f"2024-01-02T09:{n // 60:02}:{n % 60:02}.000+00:00") for n in range(number)))


@pytest.mark.parametrize(
    ("endpoint", "make"), [("patients", patient), ("observations", observation), ("consents", consent)]
)
async def test_resources_come_out_of_their_bundles_once(
    warehouse: TestDatabase, fhir: Fhir, endpoint: str, make: type
) -> None:
    resources = [make(number) for number in range(50)]
    fhir.put(*resources)
    await load_resources(warehouse, fhir, endpoint)

    assert raw_records(warehouse, f"raw_clinic.{endpoint}") == {one["id"]: one for one in resources}


async def test_a_search_without_a_match_is_empty_and_updates_follow(warehouse: TestDatabase, fhir: Fhir) -> None:
    empty = await load_resources(warehouse, fhir)
    filled(fhir)
    await load_resources(warehouse, fhir)
    fhir.put(patient(3, "2024-02-01T00:00:00.000+00:00", active=False))
    fhir.begin()
    third = await load_resources(warehouse, fhir)

    assert empty.counts.rows_read == 0
    assert third.counts.rows_updated == 1
    assert fhir.asked[0].query["_lastUpdated"].startswith("ge2024-01-02T09:01:49")
    assert raw_records(warehouse, PATIENTS) == fhir.resources["Patient"]


async def test_a_search_that_the_server_forgot_is_made_again(warehouse: TestDatabase, fhir: Fhir) -> None:
    filled(fhir)
    fhir.before[3] = fhir.searches.clear
    await load_resources(warehouse, fhir)

    assert raw_records(warehouse, PATIENTS) == fhir.resources["Patient"]


async def test_trouble_and_a_kill_lose_no_resource(warehouse: TestDatabase, fhir: Fhir) -> None:
    filled(fhir)
    load_and_kill(warehouse, fhir, 4, ["FHIR", "patients"], f"{fhir.url}/fhir", TOKEN)
    fhir.begin()
    fhir.trouble |= {1: cut_unseen, 2: refuse(503), 4: refuse(429, "Retry-After: 0")}
    await load_resources(warehouse, fhir)

    assert raw_records(warehouse, PATIENTS) == fhir.resources["Patient"]
    assert len(fhir.asked) <= 4 + 3  # of six pages, three of them asked for twice


async def test_an_operation_outcome_is_told_without_its_words(warehouse: TestDatabase, fhir: Fhir) -> None:
    """Diagnostics may quote what was searched for."""
    with pytest.raises(ConfigurationError) as caught:
        await load(warehouse, FHIR, f"{fhir.url}/fhir", "patients", "canary-wrong")

    assert "the token is not known" not in str(caught.value)
    assert "canary" not in str(caught.value)


async def test_a_warning_among_the_entries_is_no_patient(warehouse: TestDatabase, fhir: Fhir) -> None:
    """Left out where the declaration says what is listed; else it has no key, and is for the door to judge."""
    filled(fhir, 30)
    fhir.warns = True
    result = await load(warehouse, FHIR, f"{fhir.url}/fhir", "patients", TOKEN)
    assert (result.counts.rows_read, open_quarantine(warehouse)) == (30, [])
    assert raw_records(warehouse, PATIENTS) == fhir.resources["Patient"]

    everything = replace(FHIR.table("patients"), only=None, max_quarantined=0.01)
    await load(warehouse, replace(FHIR, endpoints=[everything]), f"{fhir.url}/fhir", "patients", TOKEN)
    (warning,) = open_quarantine(warehouse)
    assert (warning["rule"], warning["row_data"]["payload"]["resourceType"]) == ("key_present", "OperationOutcome")
