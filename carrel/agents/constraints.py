"""What a long text must hold to, section by section, checked by code: a model is not asked whether it did as told.

Constraints at one section, at every n-th, or over the whole, as in LongGenBench (Wu et al., arXiv 2409.02076), which
CogWriter (Wan et al., arXiv 2502.12568) is measured on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from carrel.errors import InputError
from carrel.inputs import check_text

_MARK = re.compile(r"[\[【]\d{1,3}(?:†[^】\n]{0,40})?[\]】]")
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+(?:['’.,-][^\W\u3040-\u30ff\u3400-\u9fff]+)*"
)
_HEADING = re.compile(r"^(#{1,6})\s+\S", re.MULTILINE)


def count_words(text: str) -> int:
    """The words of a text, without citation marks; of Chinese and Japanese, the characters."""
    return sum(1 for _ in _WORD.finditer(_MARK.sub("", text)))


def mentions(text: str, wanted: str) -> bool:
    """Whether words stand in a text, whole words in any case, whatever white space is between them."""
    words = r"\s+".join(map(re.escape, wanted.split()))
    return re.search(rf"(?:(?<!\w)|(?!\w)){words}(?:(?!\w)|(?<!\w))", text, re.IGNORECASE) is not None


@dataclass(frozen=True, slots=True)
class Constraint:
    """One thing that a text must hold to. Sections are numbered from 1.

    A subclass overrides what applies to it; each method gives "" where there is nothing to say.
    """

    def told(self, number: int | None) -> str:
        """What the writer of a section is told; the planner of the text, where None."""
        return ""

    def fault(self, text: str, number: int) -> str:
        """What is wrong with a section."""
        return ""

    def whole_fault(self, texts: Sequence[str]) -> str:
        """What is wrong with all sections together."""
        return ""


@dataclass(frozen=True, slots=True)
class MustMention(Constraint):
    """Words that must be mentioned: in one section, in every n-th, or else somewhere in the text.

    Raises
    ------
    InputError : no words, both a section and every n-th, or a number below 1.
    """

    text: str
    section: int | None = None
    every: int | None = None

    def __post_init__(self) -> None:
        _check_words(self.text)
        if self.section is not None and self.every is not None:
            raise InputError("words are to be mentioned in one section= or in every= n-th, not both")
        _check_number("section", self.section)
        _check_number("every", self.every)

    def _concerns(self, number: int) -> bool:
        return number == self.section or (self.every is not None and number % self.every == 0)

    def told(self, number: int | None) -> str:
        if self.section is None and self.every is None:
            return f'The text as a whole mentions "{self.text}" somewhere.'
        if number is None:
            where = f"Section {self.section}" if self.section else f"Each section whose number {self.every} divides"
            return f'{where} mentions "{self.text}".'
        return f'This section mentions "{self.text}".' if self._concerns(number) else ""

    def fault(self, text: str, number: int) -> str:
        missing = self._concerns(number) and not mentions(text, self.text)
        return f'it does not mention "{self.text}"' if missing else ""

    def whole_fault(self, texts: Sequence[str]) -> str:
        if self.section is not None and self.section > len(texts):
            return f'there is no section {self.section}, which was to mention "{self.text}"'
        if self.section is None and self.every is None and not any(mentions(text, self.text) for text in texts):
            return f'the text mentions "{self.text}" nowhere'
        return ""


@dataclass(frozen=True, slots=True)
class Words(Constraint):
    """At least and at most so many words: of one section, or else of the whole text.

    Raises
    ------
    InputError : no bound, or bounds that nothing can hold to.
    """

    least: int = 0
    most: int | None = None
    section: int | None = None

    def __post_init__(self) -> None:
        _check_number("most", self.most)
        _check_number("section", self.section)
        if self.least < 0 or (self.most is None and self.least == 0) or (self.most or self.least) < self.least:
            raise InputError(f"words are at least= and at most= so many, not {self.least!r} to {self.most!r}")

    def _said(self) -> str:
        if self.most is None:
            return f"at least {self.least}"
        return f"{self.least} to {self.most}" if self.least else f"at most {self.most}"

    def _wrong(self, what: str, count: int) -> str:
        fits = self.least <= count and (self.most is None or count <= self.most)
        return "" if fits else f"{what} has {count} words, and is to have {self._said()}"

    def told(self, number: int | None) -> str:
        if number is None:
            return f"{f'Section {self.section}' if self.section else 'The whole text'} has {self._said()} words."
        return f"This section has {self._said()} words." if number == self.section else ""

    def fault(self, text: str, number: int) -> str:
        return self._wrong("it", count_words(text)) if number == self.section else ""

    def whole_fault(self, texts: Sequence[str]) -> str:
        if self.section is None:
            return self._wrong("the text", sum(map(count_words, texts)))
        return f"there is no section {self.section}" if self.section > len(texts) else ""


@dataclass(frozen=True, slots=True)
class Forbidden(Constraint):
    """Words that must stand nowhere. Raises InputError where there are none."""

    text: str

    def __post_init__(self) -> None:
        _check_words(self.text)

    def told(self, number: int | None) -> str:
        return f'Nowhere does the text say "{self.text}".'

    def fault(self, text: str, number: int) -> str:
        return f'it says "{self.text}", which it must not' if mentions(text, self.text) else ""


@dataclass(frozen=True, slots=True)
class Headings(Constraint):
    """Each section begins with one Markdown heading of this level, 1 to 6, and has no other so high or higher."""

    level: int = 2

    def __post_init__(self) -> None:
        if self.level not in range(1, 7):
            raise InputError(f"the level of a heading is 1 to 6, not {self.level!r}")

    def told(self, number: int | None) -> str:
        return f'Each section begins with a heading, a line that begins with "{"#" * self.level} ", and has no other.'

    def fault(self, text: str, number: int) -> str:
        text = text.lstrip()
        found = [len(match[1]) for match in _HEADING.finditer(text)]
        if not text.startswith("#") or found[:1] != [self.level]:
            return f'it does not begin with a heading, "{"#" * self.level} ..."'
        more = sum(level <= self.level for level in found[1:])
        return f"it has {more} more headings of this level or above" if more else ""


def _check_words(text: object) -> None:
    if not check_text("a constraint's text", text).split():
        raise InputError("a constraint names words; this one is empty")


def _check_number(name: str, number: object) -> None:
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
        raise InputError(f"a constraint's {name} is a number from 1, not {number!r}")
