"""The API's records, built once as JSON bytes and kept in the order in which pages walk them."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from demo.commerce.day import Day
from demo.commerce.exchange import exchange_rates
from demo.dataset import read_rows

EXTENDED_CAMPAIGN = 23
EXTENDED_TO = "2018-02-18"
COUPON_WITH_TERMS = "23-10000085490"
_TERMS = {"min_spend": "10.00", "currency": "USD"}
_LAST_REDEMPTIONS = datetime(2017, 12, 30)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Identity = int | str


class Position(NamedTuple):
    """A record's place in its collection: microseconds since 1970 of updated_at, then the id. Unique."""

    updated_at: int
    identity: Identity


@dataclass(frozen=True, slots=True)
class Collection:
    """Records in the order of their positions, each as JSON."""

    positions: list[Position]
    bodies: list[bytes]

    def since(self, moment: datetime | None) -> int:
        """The place of the first record updated at or after the moment."""
        if moment is None:
            return 0
        return bisect_left(self.positions, _microseconds(moment), key=lambda position: position.updated_at)

    def after(self, position: Position) -> int:
        """The place of the first record after the position, which itself may have gone."""
        return bisect_right(self.positions, position)


class _Row(NamedTuple):
    updated_at: datetime
    record: dict[str, Any]


def collections_of(day: Day) -> Mapping[str, Collection]:
    """What the API shows on a day, by endpoint.

    27 campaigns, 6,589 targets, 1,197 coupons, 2,102 redemptions, 522 exchange rates.

    Day one lacks the redemptions from 2017-12-30 on. Takes 0.2 s.
    """
    files = ("campaign_id", "campaign_type", "start_date", "end_date")
    campaigns = read_rows("campaign_descriptions", files)
    starts = {row[0]: row[2].replace(tzinfo=UTC) for row in campaigns}
    return {
        "campaigns": _collection(_campaigns(campaigns, day)),
        "campaign_targets": _collection(_targets(starts)),
        "coupons": _collection(_coupons(starts, day)),
        "redemptions": _collection(_redemptions(day)),
        "exchange_rates": _collection(_Row(*rate) for rate in exchange_rates(day)),
    }


def _campaigns(rows: Iterable[tuple[Any, ...]], day: Day) -> Iterator[_Row]:
    for number, kind, starts_on, ends_on in rows:
        extended = day.number == 2 and number == EXTENDED_CAMPAIGN
        period = {
            "starts_on": starts_on.date().isoformat(),
            "ends_on": EXTENDED_TO if extended else ends_on.date().isoformat(),
        }
        record = {"id": number, "name": None, "type": kind, "period": period}
        yield _Row(day.since if extended else starts_on.replace(tzinfo=UTC), record)


def _targets(starts: Mapping[int, datetime]) -> Iterator[_Row]:
    for campaign, household in read_rows("campaigns", ("campaign_id", "household_id")):
        identity = f"{campaign}-{household}"
        record = {"id": identity, "campaign": {"id": campaign}, "household": {"id": household}}
        yield _Row(starts[campaign], record)


def _coupons(starts: Mapping[int, datetime], day: Day) -> Iterator[_Row]:
    """One record per campaign and code. The file names some products twice within one; so does the API."""
    products: dict[tuple[int, int], list[dict[str, int]]] = defaultdict(list)
    for upc, product, campaign in read_rows("coupons", ("coupon_upc", "product_id", "campaign_id")):
        products[campaign, upc].append({"id": product})
    for (campaign, upc), listed in products.items():
        identity = f"{campaign}-{upc}"
        with_terms = day.number == 2 and identity == COUPON_WITH_TERMS
        record = {
            "id": identity,
            "upc": str(upc),
            "campaign": {"id": campaign},
            "products": listed,
            "terms": _TERMS if with_terms else None,
        }
        yield _Row(day.since if with_terms else starts[campaign], record)


def _redemptions(day: Day) -> Iterator[_Row]:
    rows = read_rows("coupon_redemptions", ("household_id", "coupon_upc", "campaign_id", "redemption_date"))
    for number, (household, upc, campaign, redeemed_on) in enumerate(rows, start=1):
        last = redeemed_on >= _LAST_REDEMPTIONS
        if last and day.number == 1:
            continue
        record = {
            "id": number,
            "coupon": {"id": f"{campaign}-{upc}", "upc": str(upc)},
            "campaign": {"id": campaign},
            "household": {"id": household},
            "redeemed_on": redeemed_on.date().isoformat(),
            "channel": None,
        }
        yield _Row(day.since if last else redeemed_on.replace(hour=12, tzinfo=UTC), record)


def _collection(rows: Iterable[_Row]) -> Collection:
    # A zone of "Z" and microseconds only where there are some, as JSON writers of most platforms do.
    placed = sorted(
        (
            Position(_microseconds(row.updated_at), row.record["id"]),
            msgspec.json.encode(row.record | {"updated_at": row.updated_at}),
        )
        for row in rows
    )
    return Collection([position for position, _ in placed], [body for _, body in placed])


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
