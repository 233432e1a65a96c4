"""The contract of whatever finds short answers in passages, and how their evidence is combined."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from carrel.errors import GenerationError
from carrel.types import Passage

_WORDS = re.compile(r"(?<!\w)[-−](?=\.?\d)|\w+[+#]*")  # a minus sign, "C++" and "C#" tell answers apart
_ARTICLES = frozenset({"a", "an", "the"})


@dataclass(frozen=True, slots=True)
class FoundAnswer:
    """A span of a passage that may answer: the passage's number (from 1), document offsets, its probability."""

    number: int
    start: int
    end: int
    text: str
    probability: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """One answer with every place that gives it, the surest first, and their combined probability."""

    text: str
    probability: float
    places: tuple[FoundAnswer, ...]


class Answerer(ABC):
    """Finds answer spans; the base combines what several passages say and decides on abstaining."""

    name: ClassVar[str]
    citation: ClassVar[str] = ""
    languages: ClassVar[frozenset[str]] = frozenset()
    """Those it can read; empty: any. A question or passages plainly in another are left as they are."""
    threshold: float
    """Least probability of an answer that is given."""

    @abstractmethod
    def find(self, question: str, passages: Sequence[Passage]) -> list[FoundAnswer]:
        """Possible answers, in any order; their texts are exact quotations."""

    def checked_find(self, question: str, passages: Sequence[Passage]) -> list[FoundAnswer]:
        """What ``find`` gives, if every answer is a quotation with a probability.

        Raises
        ------
        GenerationError : an answer is not what stands at its place, or its probability is none.
        """
        if not passages:
            return []
        answers = self.find(question, passages)
        for found in answers:
            if not _stands(found, passages):
                raise GenerationError(f"the answerer {self.name!r} quotes what does not stand at its place: {found}")
            if not 0 <= found.probability <= 1:
                raise GenerationError(f"the answerer {self.name!r} must give probabilities from 0 to 1: {found}")
        return answers

    def candidates(self, question: str, passages: Sequence[Passage], count: int = 3) -> list[Candidate]:
        """The best answers, best first. Passages that agree make each other surer: noisy-or of one span each.

        What two passages share of their document counts once.
        """
        groups: dict[str, list[FoundAnswer]] = {}
        for found in self.checked_find(question, passages):
            groups.setdefault(_plain(found.text), []).append(found)
        out = []
        for group in groups.values():
            places = tuple(sorted(group, key=lambda found: (-found.probability, found.number, found.start)))
            out.append(Candidate(places[0].text, _together(places, passages), places))
        return sorted(out, key=lambda c: (-c.probability, c.places[0].number, c.places[0].start))[: max(0, count)]


def _stands(found: FoundAnswer, passages: Sequence[Passage]) -> bool:
    """Whether the passage of that number has that text at that place."""
    if not (1 <= found.number <= len(passages) and found.text):
        return False
    passage = passages[found.number - 1]
    inside = passage.start <= found.start < found.end <= passage.end
    return inside and passage.text[found.start - passage.start : found.end - passage.start] == found.text


def _together(places: Sequence[FoundAnswer], passages: Sequence[Passage]) -> float:
    """The probability that one of the places is right: the surest of each passage, as if independent."""
    total = 0.0
    seen: set[int | tuple[str, int, int]] = set()
    for found in places:
        place = (passages[found.number - 1].document_id, found.start, found.end)
        if found.number not in seen and place not in seen:
            total += (1 - total) * found.probability
        seen |= {found.number, place}
    return min(total, 1.0)


def _plain(text: str) -> str:
    """Lower-case words without articles: what makes two answers one."""
    return " ".join(word for word in _WORDS.findall(text.lower()) if word not in _ARTICLES) or text
