"""Redaction in both directions, by lines whose makers know what is a secret in them and what is not.

A line is put together from a form and a value: whatever of the value is left is a miss, whatever of the form is gone is
masked without need. Seeds are fixed, so a line that failed is made again; add the seed of one that was found elsewhere.
"""

import random
import string

import pytest

from flows.observe.redaction import redact

SEEDS = [*range(40), 7_919, 104_729, 20_260_504]
#: What holds a secret, the part that is to stay readable marked by its own words.
FORMS = [
    "connecting with password={} failed",
    "the password is {} says the page",
    "The API_KEY was: {} until today",
    "passphrase is now '{}' again",
    "│ warehouse_password │ {} │ string │",
    "| api_key | {} | set |",
    "┃ client_secret ┃ {} ┃ kept ┃",
    "redirect=postgresql%3A%2F%2Floader%3A{}%40db%2Fwarehouse next",
    "callback?next=a%26access_token%3D{}%26page%3D2 next",
    "twice api_key%253D{}%2526page next",
    "GET https://login.example.com/callback?code={}&state=ok answered",
    "GET https://login.example.com/callback?state=ok&code={} answered",
    "x-api-key: {} sent",
    '{{"token": "{}", "page": 2}} read',
    "Authorization: Bearer {} sent",
    "1 validation error\n  Input should be a number [type=int_parsing, input_value='{}', input_type=str]\n  end",
    'malformed array literal: "{}"\nHINT:  none',
    'time zone "{}" not recognized by it',
    'invalid value "{}" for "YYYY" here',
    'COPY households, line 1: "{}"\nHINT:  none',
]
#: Keys that are told by their form, wherever they are.
KNOWN = [
    ("ghp_", 36, string.ascii_letters + string.digits),
    ("github_pat_", 40, string.ascii_letters + string.digits + "_"),
    ("glpat-", 20, string.ascii_letters + string.digits + "-_"),
    ("xoxb-", 30, string.digits + "-" + string.ascii_letters),
    ("AKIA", 16, string.ascii_uppercase + string.digits),
    ("sk_live_", 24, string.ascii_letters + string.digits),
    ("AIza", 35, string.ascii_letters + string.digits),
    ("hf_", 30, string.ascii_letters),
]
#: What only looks like a secret: names of columns and files, prose, counts.
NAMES = ["author", "authors", "design", "redesign", "assigned", "signal", "bypass", "compass", "surpass", "passed",
         "tokenizer", "secretary", "keyset", "monkey", "zip_code", "status_code", "passenger", "authority"]  # fmt: skip
PROSE = ["the password is required", "password is wrong", "the token was revoked", "secret is not set",
         "token is 12 days old", "credentials are missing", "the api key is read from the block", "?code=404",
         "tokens=12, secrets: 3", "column design does not exist", "time zone of the source: UTC",
         "COPY households finished, 12 rows", "input_type=str", "ghp is no key", "AKIA", "xoxb- prefix"]  # fmt: skip


def secret(chance: random.Random) -> str:
    """12 to 40 characters, one a digit at least, as generators make them; none that a URL or a cell would end at."""
    letters = string.ascii_letters + string.digits + "-_.~!*"
    core = "".join(chance.choice(letters) for _ in range(chance.randint(11, 38)))
    return chance.choice(string.ascii_letters) + core + chance.choice(string.digits)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_secret_is_masked_in_each_form_and_nothing_else_is(seed: int) -> None:
    chance = random.Random(seed)
    for form in FORMS:
        value = secret(chance)
        line = redact(form.format(value))
        assert value not in line, line
        assert value[2:-2] not in line, line
        last = form.format("\0").split("\0")[1].replace('"', "").split()[-1]
        assert line.rstrip().endswith(last), line


@pytest.mark.parametrize("seed", SEEDS)
def test_a_key_of_a_known_form_is_masked_wherever_it_is(seed: int) -> None:
    chance = random.Random(seed)
    for prefix, length, letters in KNOWN:
        key = prefix + "".join(chance.choice(letters) for _ in range(length - 1)) + "7"
        around = chance.choice(["cloned with {} today", "('{}',)", "│ {} │", "remote: {}", "https://x.example/{}/hook"])
        line = redact(around.format(key))
        assert key not in line, line
        assert line == around.format("***"), line


@pytest.mark.parametrize("seed", SEEDS)
def test_lines_without_a_secret_stay_as_they_are(seed: int) -> None:
    chance = random.Random(seed)
    values = ["Ada Lovelace", "star", "12", "3.5", "sales", "north", "2026-05-04"]
    joints = ["{}: {}", "{}={}", "| {} | {} |", "│ {} │ {} │", "{} is {}", "'{}': '{}'"]
    for _ in range(40):
        parts = [chance.choice(joints).format(chance.choice(NAMES), chance.choice(values)), chance.choice(PROSE)]
        chance.shuffle(parts)
        line = "; ".join(parts)
        assert redact(line) == line
