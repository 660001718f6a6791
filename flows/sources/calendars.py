"""Holidays on which nothing is expected: see docs/freshness.md. Dates of next year are added once they are known."""

from flows.declare import Calendar

BERLIN = Calendar(
    "berlin",
    [
        "01-01",
        "03-08",
        "05-01",
        "10-03",
        "12-25",
        "12-26",
        # Good Friday, Easter Monday, Ascension, Whit Monday
        "2026-04-03",
        "2026-04-06",
        "2026-05-14",
        "2026-05-25",
        "2027-03-26",
        "2027-03-29",
        "2027-05-06",
        "2027-05-17",
    ],
)

#: By their names, models refer to them.
CALENDARS = (BERLIN,)
