"""Which brackets of an answer are citation marks that lead nowhere, and which only look like it.

A mark is plain where citations stand: ``[7]`` at the end of a clause, set off by a space. An interval, an index or
a list of values has brackets, too, and an answer without its values is worse than one with a mark too many: in
doubt the text stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

_LIST = r"\d{1,3}(?:\s{0,2},\s{0,2}\d{1,3})*"
_GROUP = rf"\[(?:\^?\d{{1,3}}|{_LIST}|\d{{1,3}}\s?[-\u2013]\s?\d{{1,3}})\]|【\d{{1,3}}(?:†[^】\n]{{0,40}})?】"
# Code is no place for marks, ``[1](...)`` is a link, and four digits are a year.
_RUN = re.compile(
    rf"```.*?(?:```|\Z)|`[^`\n]*`|(?<!\\)(?P<run>(?:{_GROUP})(?:[ \t\u00a0\u202f]{{0,2}}(?:{_GROUP}))*)(?!\()",
    re.DOTALL | re.ASCII,
)
_ONE = re.compile(_GROUP, re.ASCII)
_NUMBER = re.compile(r"\d+", re.ASCII)
_NOTE = re.compile(r"^[ \t]{0,3}\[\^(\d{1,3})\]:", re.MULTILINE | re.ASCII)
SPACES = " \t\u00a0\u202f"
_LOOK = 60  # characters of a line that are looked at before a mark

_CLAUSE_ENDS = re.compile(
    r"[*_\"'”’»]{0,3}(?:[.;!?)…](?![^\W_])|,(?![^\W_]|\s{0,3}[\[【])|[。，、；！？：）]|[ \t]{0,3}(?:\||$))",
    re.MULTILINE,
)
_SENTENCE_BEGINS = re.compile(r"[ \t]{1,3}[^\W\d_a-zß-öø-ÿ]")
_STARTS_LINE = re.compile(r"^\s*(?:[-*+•>#|]+|\d{1,3}[.)])?\s*$")
_LAST_WORD = re.compile(r"(\w+)[*_`\"'”’»)%°]{0,3}$")
_VALUE_SIGNS = "=<>≤≥≈∈∉{+*/^&"
_ABBREVIATION = re.compile(r"(?:^|\W)(?:\w|al|cf|ch|eq|figs?|no|nr|pp|refs?|sec|vgl)\.$", re.IGNORECASE)
# What comes after these belongs to the sentence: ``lies in [2, 3]``, ``the list [7]``, ``see [7]``.
_LEADING = frozenset(
    """
    a an the in into on at of to from by with within between inside outside for and or nor not than as over under via
    per is are was were be been equals equal becomes contains holds has have returns return returned yields gives gave
    prints print outputs output shows see cf compare like using use array arrays list lists tuple set sets vector
    vectors matrix interval intervals range ranges row rows column columns index indices item items value values
    number numbers element elements key keys slice entry entries step steps shape size option options page pages
    sequence series pair point points coordinates position positions figure table section chapter reference source
    passage passages bei von bis aus zwischen siehe vgl ist sind war und oder der die das den dem im am zum zur
    dans entre sur voir est sont et ou le la les du des
    """.split()
)


@dataclass(frozen=True, slots=True)
class Mark:
    """A bracket in a text: the numbers it names, and whether it can be nothing but a citation mark."""

    start: int
    end: int
    numbers: tuple[int, ...]
    is_plain: bool


def find_runs(text: str) -> Iterator[list[Mark]]:
    """The brackets that are or may be citation marks, those that stand side by side together."""
    notes = {int(number) for number in _NOTE.findall(text)}
    for match in _RUN.finditer(text):
        if match["run"] is None:
            continue
        start, end = match.span("run")
        found = [_mark(text, group, notes) for group in _ONE.finditer(text, start, end)]
        place = _place(text, start, end)
        if place is not None and not any(len(mark.numbers) > 1 and 0 in mark.numbers for mark in found):
            yield found if place else [Mark(mark.start, mark.end, mark.numbers, False) for mark in found]


def _mark(text: str, group: re.Match[str], notes: Collection[int]) -> Mark:
    written = group[0]
    head = written.partition("†")[0]
    numbers = tuple(map(int, _NUMBER.findall(head)))
    if "^" in head and numbers[0] in notes:  # a footnote of the answer's own
        numbers = ()
    return Mark(*group.span(), numbers, not ("-" in head or "\u2013" in head or 0 in numbers))


def _place(text: str, start: int, end: int) -> bool | None:
    """True where citations stand, None where they never do, False in doubt."""
    line = text[max(0, start - _LOOK) : start].rpartition("\n")[2]
    before = line.rstrip(SPACES)
    is_set_off = len(before) < len(line)
    last, word = before[-1:], _LAST_WORD.search(before)
    ends_clause = _CLAUSE_ENDS.match(text, end) is not None
    if last and last in _VALUE_SIGNS and word is None:
        return None
    if text[start] == "[" and not is_set_off and (last.isalnum() or (last and last in "_])\"'`")):
        return False if last.isalnum() and ends_clause else None  # an index, or a mark that lost its space
    if text[end : end + 1].isalnum() or _STARTS_LINE.match(line):
        return False
    if last and last in ".!?…。！？":
        return not _ABBREVIATION.search(before) and (ends_clause or _SENTENCE_BEGINS.match(text, end) is not None)
    return ends_clause and word is not None and word[1].lower() not in _LEADING
