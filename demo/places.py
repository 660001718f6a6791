"""Made-up places for stores and households, because the real data is anonymised.

A place depends on its number only, so every load writes the same ones. Stores are around the centres of American
cities, and a household is within an hour's drive of the store of its first purchase.
"""

from dataclasses import dataclass
from math import cos, radians

_KM_PER_DEGREE = 111.195
# The centre of a city, in degrees, and the state it lies in.
_CITIES = (
    (40.7128, -74.0060, "NY"), (41.4993, -81.6944, "OH"), (39.7392, -104.9903, "CO"), (41.8781, -87.6298, "IL"),
    (42.3314, -83.0458, "MI"), (33.7490, -84.3880, "GA"), (39.2904, -76.6122, "MD"), (40.4406, -79.9959, "PA"),
    (37.7749, -122.4194, "CA"), (45.5152, -122.6784, "OR"), (29.9511, -90.0715, "LA"), (39.1031, -84.5120, "OH"),
    (33.4484, -112.0740, "AZ"), (43.0731, -89.4012, "WI"), (44.9778, -93.2650, "MN"), (39.9612, -82.9988, "OH"),
    (36.1627, -86.7816, "TN"), (42.3601, -71.0589, "MA"), (36.1699, -115.1398, "NV"), (35.2271, -80.8431, "NC"),
    (29.7604, -95.3698, "TX"), (42.8864, -78.8784, "NY"), (40.7608, -111.8910, "UT"), (37.5407, -77.4360, "VA"),
    (35.1495, -90.0490, "TN"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Degrees in decimals, south and west negative, and the state's two letters."""

    latitude: float
    longitude: float
    region: str


def place_of_store(store_id: int) -> Place:
    """Where a store is: within 20 km of a city's centre, the same on every call."""
    latitude, longitude, region = _CITIES[store_id * 7 % len(_CITIES)]
    return _beside(Place(latitude, longitude, region), store_id, reach_km=20)


def place_of_household(household_id: int, store_id: int) -> Place:
    """Where a household lives: within 30 km of that store, the same on every call."""
    return _beside(place_of_store(store_id), household_id, reach_km=30)


def _beside(centre: Place, number: int, reach_km: float) -> Place:
    """A point of a square around the centre. 7,919 and 104,729 are primes: neighbours in number are none on the map."""
    north = (number * 7919 % 2001 / 1000 - 1) * reach_km / 2**0.5
    east = (number * 104729 % 1999 / 999 - 1) * reach_km / 2**0.5
    return Place(
        round(centre.latitude + north / _KM_PER_DEGREE, 5),
        round(centre.longitude + east / (_KM_PER_DEGREE * cos(radians(centre.latitude))), 5),
        centre.region,
    )
