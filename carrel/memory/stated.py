"""Whether what a generator writes down was said: a fact's quotation stands in a turn, and its names and numbers too."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from carrel.memory.base import StoredTurn
from carrel.memory.forgetting import plain_words
from carrel.memory.words import WORD, terms

_QUOTED_WORDS = 3  # of a quotation at least, one of them of content, where it is not the whole turn
_MONTH = "(?:january|february|march|april|may|june|july|august|september|october|november|december)"
_YEAR, _DAY = r"(?:19|20)\d\d", r"\d{1,2}(?:st|nd|rd|th)?"
_DATE = re.compile(
    rf"\b(?:{_DAY} (?:of )?{_MONTH}(?:,? {_YEAR})?|{_MONTH}(?: {_DAY})?(?:,? {_YEAR})?|{_YEAR}(?:-\d\d){{0,2}}"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)days?)\b",
    re.I,
)
_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
_ALWAYS = ("user", "assistant")


def words_of(stretch: Sequence[StoredTurn]) -> frozenset[str]:
    """The plain words of turns and of the names of those who spoke, numbers in figures besides."""
    found = {*_ALWAYS, *plain_words(" ".join(f"{turn.speaker} {turn.text}" for turn in stretch)).split()}
    return frozenset(found | {str(number) for number, word in enumerate(_NUMBERS) if word in found})


def is_told(fact: str, known: Collection[str]) -> bool:
    """Whether every name and number of a fact is among the words that were said; but for dates, which are worked out.

    The first word is not taken for a name.
    """
    for place, word in enumerate(WORD.findall(_DATE.sub("it", fact))):
        special = any(letter.isdigit() for letter in word) or (place > 0 and word[0].isupper())
        if special and not any(_same(part, known) for part in plain_words(word).split()):
            return False
    return True


def _same(word: str, known: Collection[str]) -> bool:
    """Whether it was said, in some form: "Italian" of "Italy"."""
    stem = word[: max(4, len(word) - 3)]
    return word in known or (len(word) > 4 and any(other.startswith(stem) for other in known))


def stating(quote: str, number: int, stretch: Sequence[StoredTurn]) -> StoredTurn | None:
    """The turn in which a quotation stands; the one that was named, counted from 1, is looked at first."""
    named = [stretch[number - 1]] if 1 <= number <= len(stretch) else []
    words = plain_words(quote)
    for turn in (*named, *stretch):
        said = plain_words(turn.text)
        if words in said and ((len(words.split()) >= _QUOTED_WORDS and terms(quote)) or words == said != " "):
            return turn
    return None
