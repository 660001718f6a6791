"""Made-up contact details for households, because the real data is anonymised.

A household's details depend on its number only, so every load writes the same ones. They are untidy on purpose, the
way people type them into forms. Nobody can be reached by them: numbers 555-0100 to 555-0199 and the domains
example.com, example.org and example.net are set aside for fiction and documentation (RFC 2606).
"""

from dataclasses import dataclass
from typing import Any

_FIRST_NAMES = (
    "Ada", "Alma", "Amos", "Anton", "Beryl", "Bruno", "Carla", "Cedric", "Clara", "Conrad", "Dalia", "Desmond", "Edith",
    "Elio", "Esther", "Ezra", "Fern", "Florian", "Greta", "Gustav", "Hazel", "Hector", "Ilse", "Ivo", "Joan", "Jonas",
    "Karla", "Kenji", "Leona", "Luca", "Mabel", "Marcus", "Nadia", "Nils", "Opal", "Oscar", "Petra", "Quentin", "Rosa",
    "Rufus", "Selma", "Silas", "Tamar", "Theo", "Ursula", "Victor", "Wanda", "Xavier", "Yara", "Zeno",
)  # fmt: skip
_LAST_NAMES = (
    "Abbot", "Alder", "Barley", "Birch", "Brook", "Carver", "Cooper", "Dale", "Draper", "Elm", "Farrow", "Field",
    "Fisher", "Garland", "Glover", "Hale", "Hollis", "Ives", "Keel", "Lark", "Linden", "Marsh", "Mercer", "Miller",
    "Nash", "O'Dell", "Orchard", "Paddock", "Pike", "Quill", "Reed", "Rowan", "Saddler", "Shore", "Stone", "Tanner",
    "Thorn", "Underhill", "Vale", "Wainwright", "Weaver", "Wells", "Wick", "Wren", "Yarrow", "Yates", "Zimmer",
)  # fmt: skip
_AREA_CODES = (
    "201", "212", "216", "303", "312", "313", "404", "410", "412", "415", "503", "504", "513", "602", "608", "612",
    "614", "615", "617", "702", "704", "713", "716", "801", "804", "901",
)  # fmt: skip
_DOMAINS = ("example.com", "example.org", "example.net")
_CHANNELS = ("email", "phone", "post", "app")


@dataclass(frozen=True, slots=True)
class Contact:
    """What a household told the shop about itself; `email` and `phone` as typed, or None."""

    full_name: str
    email: str | None
    phone: str | None
    preferences: dict[str, Any]


def contact_of(household_id: int) -> Contact:
    """The contact details of a household, the same on every call. Phone numbers are unique up to household 2,600."""
    # Factors without a common divisor with the lists' lengths spread neighbours over the lists.
    first = _FIRST_NAMES[household_id * 7 % len(_FIRST_NAMES)]
    last = _LAST_NAMES[household_id * 11 % len(_LAST_NAMES)]
    return Contact(
        f"{first} {last}", _email(household_id, first, last), _phone(household_id), _preferences(household_id)
    )


def _email(household_id: int, first: str, last: str) -> str | None:
    if household_id % 53 == 0:
        return None
    name = f"{first}.{last}".replace("'", "")
    address = f"{name.lower()}.{household_id}@{_DOMAINS[household_id % len(_DOMAINS)]}"
    match household_id % 11:
        case 3:
            return address.upper()
        case 5:
            return f"  {address} "
        case 7:
            return f"{name}.{household_id}@Example.com"
        case _:
            return address


def _phone(household_id: int) -> str | None:
    if household_id % 61 == 0:
        return None
    # 37 and the 2,600 numbers (26 area codes, 555-0100 to 555-0199) have no common divisor: no number comes twice.
    area_at, line_at = divmod(household_id * 37 % (len(_AREA_CODES) * 100), 100)
    area, line = _AREA_CODES[area_at], f"01{line_at:02d}"
    match household_id % 7:
        case 0:
            return f"+1 {area} 555 {line}"
        case 1:
            return f"{area}.555.{line}"
        case 2:
            return f"{area}555{line}"
        case 3:
            return f"1-{area}-555-{line} ext. {household_id % 9 + 1}"
        case 4:
            return f" {area}-555-{line} "
        case _:
            return f"({area}) 555-{line}"


def _preferences(household_id: int) -> dict[str, Any]:
    languages = ["en", "es"] if household_id % 6 == 0 else ["en"]
    preferences: dict[str, Any] = {
        "newsletter": household_id % 3 != 0,
        "channel": _CHANNELS[household_id % len(_CHANNELS)],
        "languages": languages,
    }
    if household_id % 10 == 0:
        preferences["quiet_hours"] = {"from": "20:00", "to": "08:00"}
    return preferences
