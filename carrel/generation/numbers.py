"""Numbers by their value, however they are written: 1,204; 4.36 million; twenty-one; 3rd; 40 %; 1947-48; 1998-03-12."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_ISO_DATE = r"(?<![^\W_])\d{4}\s?-\s?\d{1,2}\s?-\s?\d{1,2}(?!\d)"
_TWO_YEARS = r"(?<![\w.,])[12]\d{3}\s?[-–]\s?\d{2}(?![\d\w]|[.,]\d)"
NUMBER = rf"{_ISO_DATE}|{_TWO_YEARS}|\d+(?:[.,]\d+)*(?:(?:st|nd|rd|th|s|bn)(?![^\W_]))?"
_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_ORDINALS = (
    "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth"
    " fifteenth sixteenth seventeenth eighteenth nineteenth"
).split()
_WORDS = {word: value for words in (_SMALL, _ORDINALS) for value, word in enumerate(words)}
_WORDS |= {word: 10 * value for value, word in enumerate(_TENS, start=2)}
_WORDS |= {f"{word[:-1]}ieth": 10 * value for value, word in enumerate(_TENS, start=2)}
_WORDS |= {"twice": 2, "thrice": 3, "dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_SCALES |= {"bn": 10**9}
MONTHS = frozenset(
    "january february march april may june july august september october november december jan feb mar apr jun jul"
    " aug sep sept oct nov dec".split()
)
_MONTH_KEYS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_UNITS = (
    "percent % percentage,dollar dollars $ usd,euro euros € eur,pound pounds £ gbp,yen ¥,kilometre kilometres kilometer"
    " kilometers km,metre metres meter meters m,centimetre centimetres centimeter centimeters cm,millimetre millimetres"
    " millimeter millimeters mm,mile miles mi,foot feet ft,inch inches,yard yards,kilogram kilograms kg,gram grams g,"
    "tonne tonnes,ton tons,hectare hectares ha,acre acres,litre litres liter liters,gallon gallons,second seconds,"
    "minute minutes,hour hours,day days,week weeks,month months,year years,decade decades,century centuries,degree"
    " degrees,celsius,fahrenheit,knot knots,mph,watt watts,kilowatt kilowatts kw,megawatt megawatts mw,volt volts"
)
UNITS = {word: words.split()[0] for words in _UNITS.split(",") for word in words.split()}
_SIGNS = frozenset("$€£¥")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number that was read: its values (a range has two), the months of a date, its unit, and the next word."""

    values: tuple[float, ...]
    next: int
    unit: str = ""
    months: tuple[str, ...] = ()
    kind: Literal["number", "year"] = "number"


def is_number_word(word: str) -> bool:
    """Whether a word in small letters is a number by itself, such as seven, third or dozen."""
    return word in _WORDS


def read_quantity(words: Sequence[str], index: int) -> Quantity | None:
    """The number that starts at a word, in small letters; None where there is none."""
    word = words[index]
    if word[0].isdigit() and ("-" in word or "–" in word):
        return _iso_date(word, index + 1) if word.count("-") == 2 else _years(word, index + 1)
    value = _simple(word)
    if value is None:
        return None
    is_written = word[0].isdigit()
    after = index + 1
    if word in _TENS and after < len(words) and 0 < _WORDS.get(words[after], 0) < 10:
        value, after = value + _WORDS[words[after]], after + 1
    value, after = _scaled(words, value, after)
    before = words[index - 1] if index and words[index - 1] in _SIGNS else ""
    unit = UNITS.get(before or (words[after] if after < len(words) else ""), "")
    if word.endswith("s") and is_written:
        unit = "decade"
    is_year = is_written and len(word) == 4 and after == index + 1 and not unit and 1000 <= value <= 2100
    return Quantity((value,), after, unit, kind="year" if is_year else "number")


def _scaled(words: Sequence[str], value: float, after: int) -> tuple[float, int]:
    """The value times the hundred, thousand, ... that follow it, with what is added: two hundred and fifty."""
    while after < len(words) and words[after] in _SCALES:
        scale = _SCALES[words[after]]
        value, after = value * scale, after + 1
        more = after + (after < len(words) and words[after] == "and")
        if scale < 10**6 and scale != 12 and more < len(words) and words[more] in _WORDS and words[more] not in _SCALES:
            added = read_quantity(words, more)
            if added is not None and added.values[0] < scale:
                value, after = value + added.values[0], added.next
    return round(value, 6), after


def _iso_date(word: str, after: int) -> Quantity | None:
    year, month, day = (int(part) for part in re.split(r"\s?-\s?", word))
    if not 1 <= month <= 12:
        return Quantity((float(year), float(month), float(day)), after)
    return Quantity((float(year), float(day)), after, months=(_MONTH_KEYS[month - 1],))


def _years(word: str, after: int) -> Quantity:
    """Two years of one century: 1947-48."""
    first, last = (int(part) for part in re.split(r"\s?[-–]\s?", word))
    return Quantity((float(first), float(first // 100 * 100 + last)), after, kind="year")


def _simple(word: str) -> float | None:
    if word in _WORDS:
        return float(_WORDS[word])
    if not word[0].isdigit():
        return None
    scale = 10**9 if word.endswith("bn") else 1
    digits = re.sub(r"(?:st|nd|rd|th|s|bn)$", "", word)
    digits = re.sub(r",(?=\d{3}(?!\d))", "", digits).replace(",", ".")
    try:
        return float(digits) * scale
    except ValueError:  # 1.2.3: a version or a section
        return None
