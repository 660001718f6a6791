"""The cleansing macros against Python's own readers, over thousands of texts: good ones, and good ones spoiled."""

import math
import random
import re
import statistics
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from tests.conftest import TestCluster, fresh_warehouse
from tests.dbt_project.macro_sql import write

SEED, CASES = 20_171_231, 4_000
MONTHS = ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
          "december"]  # fmt: skip
SPACES = " \t\n\r\x0b\x0c\x85\xa0\u1680\u2000\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
INVISIBLE = "\u180e\u200b\u200c\u200d\u2060\ufeff"  # which str.strip leaves, since they are no white space to Unicode
ODD = [
    "\uff11",
    "\u0663",
    "x",
    "-",
    "/",
    ".",
    ",",
    ":",
    " ",
    "0",
    "9",
    "T",
    "Z",
    "+",
    "e",
    "_",
    "'",
    "\\",
    "\u00e9",
    "\u200b",
]


@pytest.fixture(scope="module")
def database(cluster: TestCluster) -> Iterator[psycopg.Connection[Any]]:
    with fresh_warehouse(cluster) as warehouse, psycopg.connect(warehouse.url("transformer")) as opened:
        opened.execute("set timezone = 'Asia/Tokyo'")
        yield opened


def texts(good: Callable[[random.Random], str]) -> list[str]:
    """Good texts, half of them with a character changed, doubled, put in or left out, some in white space."""
    chance, found = random.Random(SEED), []
    for _ in range(CASES):
        text = good(chance)
        if text and chance.random() < 0.5:
            at = chance.randrange(len(text))
            text = text[:at] + chance.choice([*ODD, "", text[at] * 2]) + text[at + chance.randrange(2) :]
        if chance.random() < 0.2:
            text = f"{chance.choice(SPACES + INVISIBLE)}{text}{chance.choice(SPACES + INVISIBLE)}"
        found.append(text)
    return found


def differing(
    database: psycopg.Connection[Any], expression: str, given: Sequence[str], oracle: Callable[[str], Any]
) -> list[tuple[str, Any, Any]]:
    """Text, the oracle's reading and the macro's, where they differ; of a fair share both must have read something."""
    written = expression.replace("%", "%%")
    query = f"select {written} from unnest(%s::text[]) with ordinality as cases (value, place) order by place"
    read = [row[0] for row in database.execute(query.encode(), [list(given)]).fetchall()]
    expected = [oracle(text) for text in given]
    known = sum(one is not None and one is not False for one in expected)
    assert len(given) / 4 < known < len(given) * 0.95, known
    return [row for row in zip(given, expected, read, strict=True) if row[1] != row[2]]


def stripped(text: str) -> str:
    return text.strip(SPACES + INVISIBLE)


# -- numbers


def number(chance: random.Random) -> str:
    whole = str(chance.randrange(10 ** chance.randrange(1, 10)))
    text = chance.choice(["", "", "-", "+"]) + whole
    if chance.random() < 0.6:
        text += "." + "".join(str(chance.randrange(10)) for _ in range(chance.randrange(5)))
    if chance.random() < 0.1:
        text += f"e{chance.randrange(-9, 9)}"
    return text if chance.random() < 0.95 else chance.choice(["NaN", "Infinity", "-inf", "0x1F", "1_000", "0b1", "1,5"])


def plain(text: str) -> Decimal | None:
    if not text.isascii() or "_" in text or re.search("[eE][+-]?[0-9]{4}", text):
        return None
    with suppress(InvalidOperation):
        value = Decimal(text.strip(" \t\n\r\x0b\x0c"))
        return value if value.is_finite() else None
    return None


def fits(text: str) -> Decimal | None:
    """As numeric(10, 2): not rounded, at most eight digits before the point."""
    value = plain(text)
    return value if value is not None and abs(value) < 10**8 and value == round(value, 2) else None


def whole(text: str) -> int | None:
    value = text.strip(" \t\n\r\x0b\x0c")
    return int(value) if re.fullmatch("[+-]?[0-9]+", value) and abs(int(value)) < 2**31 else None


@pytest.mark.parametrize(("kind", "oracle"), [("numeric", plain), ("numeric(10, 2)", fits), ("integer", whole)])
def test_numbers_are_read_as_python_reads_plain_decimals(
    database: psycopg.Connection[Any], kind: str, oracle: Callable[[str], Any]
) -> None:
    given = texts(number)
    if kind == "integer":
        given += [str(n) for n in random.Random(SEED).sample(range(-(2**31), 2**31), 2000)]
    assert differing(database, write("cast_or_null", "value", kind), given, oracle) == []


# -- days and moments


def any_day(chance: random.Random) -> date:
    return date(1000, 1, 1) + timedelta(days=chance.randrange(3_000_000))


def day_text(chance: random.Random) -> str:
    day = any_day(chance)
    name = chance.choice([MONTHS[day.month - 1], MONTHS[day.month - 1][:3]])
    name = chance.choice([name, name.title(), name.upper()])
    return chance.choice(
        [
            f"{day:%Y-%m-%d}",
            f"{day}T{chance.randrange(30):02}:{chance.randrange(70):02}:00" + chance.choice(["", "Z", "+01:00"]),
            f"{day:%Y%m%d}",
            f"{day:%d.%m.%Y}",
            f"{day.day}/{day.month}/{day.year}",
            f"{day.month}/{day.day}/{day.year}",
            f"{day.day} {name} {day.year}",
            f"{name} {day.day}, {day.year}",
            f"{day.day}-{name}-{day.year}",
        ]
    )


def day_read(text: str) -> date | None:
    """By Python: iso, compact, European, American, and names, in the order asked for."""
    text = stripped(text)
    if not text.isascii() or re.search(r"\b0\d{3}\b", text):
        return None
    if "T" in text and re.match(r"\d{4}-\d{2}-\d{2}T", text):
        with suppress(ValueError):
            if re.fullmatch(r".{10}T\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)? ?(Z|[+-]\d{2}:?\d{2}|[+-]\d{2})?", text):
                return datetime.fromisoformat(re.sub(r",", ".", text).replace(" ", "")).date()
        return None
    for form, shape in [
        ("%Y-%m-%d", r"\d{4}-\d{2}-\d{2}"),
        ("%Y%m%d", r"\d{8}"),
        ("%d.%m.%Y", r"\d{1,2}\.\d{1,2}\.\d{4}"),
        ("%d/%m/%Y", r"\d{1,2}/\d{1,2}/\d{4}"),
        ("%d-%m-%Y", r"\d{1,2}-\d{1,2}-\d{4}"),
        ("%m/%d/%Y", r"\d{1,2}/\d{1,2}/\d{4}"),
    ]:
        if re.fullmatch(shape, text):
            with suppress(ValueError):
                return datetime.strptime(text, form).date()
    words = re.fullmatch(r"(\d{1,2})(?:\.? +|\.|-)([a-z]+)(?:[.,]? +|\.|-)(\d{4})", text, re.IGNORECASE)
    if words is None:
        swapped = re.fullmatch(r"([a-z]+)(?:\.? +|\.|-)(\d{1,2})(?:, *| +|-)(\d{4})", text, re.IGNORECASE)
        parts = (swapped[2], swapped[1], swapped[3]) if swapped else None
    else:
        parts = (words[1], words[2], words[3])
    if parts is None:
        return None
    names = {name: n for n, full in enumerate(MONTHS, 1) for name in (full, full[:3])} | {"sept": 9}
    with suppress(ValueError):
        return date(int(parts[2]), names.get(parts[1].lower(), 0), int(parts[0]))
    return None


def test_days_are_read_as_python_reads_them(database: psycopg.Connection[Any]) -> None:
    expression = write("parse_date", "value", ["iso", "compact", "eu", "us", "name"])
    assert differing(database, expression, texts(day_text), day_read) == []


def moment_text(chance: random.Random) -> str:
    moment = datetime.combine(any_day(chance), datetime.min.time()) + timedelta(seconds=chance.randrange(86_400))
    zone = chance.choice(["", "Z", "UTC", " GMT", "+01:00", "-0330", "+05", "+14:00"])
    return chance.choice(
        [
            f"{moment:%Y-%m-%dT%H:%M:%S}{zone}",
            f"{moment:%Y-%m-%d %H:%M}{zone}",
            f"{moment:%Y-%m-%d %H:%M:%S}.{chance.randrange(1_000_000):06}{zone}",
            f"{moment:%Y%m%dT%H%M%S}{zone}",
            str(chance.randrange(10**9, 4 * 10**9)),
        ]
    )


def moment_read(text: str) -> datetime | None:
    """By Python; what names no zone is New York's."""
    text = stripped(text)
    if re.fullmatch("[0-9]{9,10}", text):
        return datetime.fromtimestamp(int(text), UTC)
    if re.fullmatch("[0-9]{12,13}", text):
        return datetime.fromtimestamp(int(text[:-3]), UTC) + timedelta(milliseconds=int(text[-3:]))
    clock = r"\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?|\d{4}(\d{2}([.,]\d{1,9})?)?"
    shape = rf"([1-9]\d{{3}}-\d{{2}}-\d{{2}}|[1-9]\d{{7}})[T ]({clock})( ?(Z|UTC|GMT|[+-]\d{{2}}(:?\d{{2}})?))?"
    if not text.isascii() or not (found := re.fullmatch(shape, text, re.IGNORECASE)):
        return None
    day, time, zone = found[1].replace("-", ""), re.sub("[:]", "", found[2]).replace(",", "."), found[7] and found[8]
    with suppress(ValueError):
        read = datetime.strptime(f"{day}{time[:6].ljust(6, '0')}", "%Y%m%d%H%M%S")
        read += timedelta(microseconds=int(time[7:13].ljust(6, "0") or 0))
        if zone is None:
            return read.replace(tzinfo=ZoneInfo("America/New_York"))
        offset = zone if zone[0] in "+-" else "+00"
        hours, minutes = int(offset[1:3]), int(offset[3:].lstrip(":") or 0)
        if hours > 15 or minutes > 59:
            return None
        return (read - (1 if offset[0] == "+" else -1) * timedelta(hours=hours, minutes=minutes)).replace(tzinfo=UTC)
    return None


def test_moments_are_read_as_python_reads_them(database: psycopg.Connection[Any]) -> None:
    given = [text for text in texts(moment_text) if "1000-" not in text and not text.startswith("9999")]
    expression = f"extract(epoch from {write('parse_timestamp', 'value', zone='America/New_York')})"

    def seconds(text: str) -> Decimal | None:
        moment = moment_read(text)
        if moment is None:
            return None
        return Decimal((moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)) / 10**6

    wrong = differing(database, expression, given, seconds)
    assert [row for row in wrong if None in row or abs(row[1] - row[2]) > Decimal("0.000001")] == []


# -- texts


def address(chance: random.Random) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    local = ".".join(
        "".join(chance.choice(letters + "+_-!#'") for _ in range(chance.randrange(1, 30)))
        for _ in range(chance.randrange(1, 4))
    )
    labels = [
        "".join(chance.choice(letters + "-\u00fc\u4f8b") for _ in range(chance.randrange(1, 70)))
        for _ in range(chance.randrange(1, 4))
    ]
    last = chance.choice(["com", "de", "museum", "xn--p1ai", "\u30c6\u30b9\u30c8", "c", "12"])
    return f"{local}@{'.'.join(labels)}.{last}"


def wellformed(text: str) -> bool:
    """By splitting, without any pattern."""
    local, at, domain = text.partition("@")
    atoms, labels = local.split("."), domain.split(".")
    letters = "abcdefghijklmnopqrstuvwxyz"

    def is_letter(character: str) -> bool:
        return character in letters or (ord(character) > 0xA0 and unicodedata.category(character)[0] not in "ZC")

    def is_label(label: str) -> bool:
        inner = all(is_letter(character) or character in "0123456789-" for character in label)
        return 0 < len(label) <= 63 and inner and label[0] != "-" != label[-1]

    return (
        at == "@"
        and len(text) <= 254
        and 0 < len(local) <= 64
        and all(atom and all(c in letters + "0123456789!#$%&'*+/=?^_`{|}~-" for c in atom) for atom in atoms)
        and len(labels) > 1
        and all(is_label(label) for label in labels)
        and len(labels[-1]) > 1
        and is_letter(labels[-1][0])
    )


def test_addresses_are_wellformed_as_python_finds_by_splitting_them(database: psycopg.Connection[Any]) -> None:
    given = [text.lower() for text in texts(address)]
    given = [text for text in given if not any(c in INVISIBLE for c in text)]
    assert differing(database, write("email_is_wellformed", "value"), given, wellformed) == []


def test_white_space_is_what_python_strips_and_what_nobody_sees(database: psycopg.Connection[Any]) -> None:
    everything = [chr(n) for n in range(1, 0x10000) if not 0xD800 <= n < 0xE000]
    query = f"select {write('trimmed', 'value')} from unnest(%s::text[]) with ordinality as c (value, n) order by n"
    read = [row[0] for row in database.execute(query.encode(), [everything]).fetchall()]
    gone = {text for text, left in zip(everything, read, strict=True) if left == ""}
    assert gone - set(INVISIBLE) == {text for text in everything if not text.strip()} - set("\x1c\x1d\x1e\x1f")
    assert set(INVISIBLE) <= gone


# -- outliers


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("method", ["iqr", "z_score"])
def test_bounds_are_those_of_pythons_statistics(database: psycopg.Connection[Any], method: str, scale: str) -> None:
    chance = random.Random(SEED)
    for _ in range(60):
        amounts = [
            round(chance.lognormvariate(3, chance.choice([0, 0.5, 2])), 2) for _ in range(chance.randrange(8, 60))
        ]
        amounts += chance.sample([-5.0, 0.0, math.nan, math.inf], 2)
        finite = [amount for amount in amounts if math.isfinite(amount)]
        taken = [math.log(amount) for amount in finite if amount > 0] if scale == "log" else finite
        if method == "iqr":
            low, _, high = statistics.quantiles(taken, n=4, method="inclusive")
            expected = low - 1.5 * (high - low), high + 1.5 * (high - low)
        else:
            mean, deviation = statistics.fmean(taken), statistics.stdev(taken)
            expected = mean - 1.5 * deviation, mean + 1.5 * deviation
        if scale == "log":
            expected = math.exp(expected[0]), math.exp(expected[1])
        listed = ", ".join(f"('{amount}'::double precision)" for amount in amounts)
        query = write("outlier_bounds", f"(values {listed}) as given (amount)", "amount", method=method, scale=scale)
        assert database.execute(query.encode()).fetchall() == [pytest.approx(expected, rel=1e-6, abs=1e-6)]
