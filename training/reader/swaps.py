"""Questions made unanswerable by another name, number or word in them, as people wrote them for SQuAD 2.0.

Reference: Rajpurkar et al., "Know What You Don't Know: Unanswerable Questions for SQuAD", arXiv 1806.03822
(entity swaps, antonyms and negations are what its authors found in theirs).
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from config import Config
from data import Question, normal

_NAME = re.compile(r"(?<=\w )[A-Z][\w’-]+(?: (?:of |the |de )?[A-Z][\w’-]+)*")
_YEAR = re.compile(r"\b(?:1[0-9]|20)[0-9]{2}\b")
_NUMBER = re.compile(r"(?<![\w.,])\d{1,3}(?:[.,]\d+)*(?![\w])")
_VERB = re.compile(r"\b(did|does|do|is|are|was|were|has|have|had|can|could|will|would)\b", re.IGNORECASE)
_OPPOSITES = (
    "first last,before after,highest lowest,largest smallest,most least,more less,north south,east west,"
    "northern southern,eastern western,oldest youngest,earliest latest,began ended,increase decrease,"
    "increased decreased,won lost,best worst,male female,men women,old new,high low,higher lower,long short,"
    "early late,start end,inside outside,above below,maximum minimum,positive negative,rich poor,private public,"
    "internal external,major minor,common rare,large small,allowed forbidden,same different,strong weak"
)
OPPOSITES = {a: b for pair in _OPPOSITES.split(",") for x, y in (pair.split(),) for a, b in ((x, y), (y, x))}
_KINDS = (_NAME, _YEAR, _NUMBER)
_OPPOSITE = re.compile(rf"\b({'|'.join(OPPOSITES)})\b")


class Swaps:
    """Knows the names, years and numbers of all questions, and puts one of them in another's place."""

    def __init__(self, questions: Sequence[Question], config: Config) -> None:
        self.config = config
        self.known = [sorted({found for q in questions for found in pattern.findall(q.question)}) for pattern in _KINDS]

    def changed(self, question: Question, chance: random.Random) -> str | None:
        """The question with one thing changed; None when it has nothing that can be."""
        ways = [self._swapped, self._opposite, self._negated]
        for way in chance.sample(ways, len(ways)):
            result = way(question, chance)
            if result is not None and normal(result) != normal(question.question):
                return result
        return None

    def rewritten(self, question: Question, text: str, chance: random.Random) -> str | None:
        """The passage with a name, year or number of the question exchanged for another one wherever it stands."""
        answers = [question.context[start:end] for start, end in question.answers]
        for pattern, known in chance.sample(list(zip(_KINDS, self.known, strict=True)), 3):
            names = [m.group() for m in pattern.finditer(question.question)]
            if pattern is _NAME and not names:
                names = [m.group() for _, m in self._small(question, text)]
            names = [n for n in names if n in text and not any(n in answer or answer in n for answer in answers)]
            if not names:
                continue
            name = chance.choice(names)
            other = chance.choice(known)
            if other not in text and name not in other:
                return re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", lambda _, other=other: str(other), text)
        return None

    def _small(self, question: Question, text: str) -> list[tuple[re.Match[str], re.Match[str]]]:
        """(place in the question, place in the text) of names that the question has in lower case."""
        asked = question.question
        if not self.config.any_case or asked != asked.lower():
            return []
        names = {m.group().lower(): m for m in _NAME.finditer(text)}
        found = [(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", asked), m) for name, m in names.items()]
        return [(place, m) for place, m in found if place is not None]

    def _swapped(self, question: Question, chance: random.Random) -> str | None:
        """Another name, year or number; one of the same paragraph where it has any, for that is harder to tell."""
        text = question.question
        answers = {question.context[start:end] for start, end in question.answers}
        for pattern, known in chance.sample(list(zip(_KINDS, self.known, strict=True)), 3):
            places = [m for m in pattern.finditer(text) if m.group() in question.context]
            small = [place for place, _ in self._small(question, question.context)] if pattern is _NAME else []
            places += small
            if not places:
                continue
            place = chance.choice(places)
            here = sorted({m.group() for m in pattern.finditer(question.context)} - answers)
            here = [name for name in here if name not in text and place.group() not in name]
            if small:
                here = [name.lower() for name in here if name.lower() not in text]
            options = here if here and chance.random() < self.config.near else known
            if options:
                other = chance.choice(options)
                return text[: place.start()] + (other.lower() if small else other) + text[place.end() :]
        return None

    def _opposite(self, question: Question, chance: random.Random) -> str | None:
        places = list(_OPPOSITE.finditer(question.question))
        if not places:
            return None
        place = chance.choice(places)
        return question.question[: place.start()] + OPPOSITES[place.group()] + question.question[place.end() :]

    def _negated(self, question: Question, chance: random.Random) -> str | None:
        place = _VERB.search(question.question)
        if place is None or chance.random() >= self.config.negated:  # a rare way of asking
            return None
        return f"{question.question[: place.end()]} not{question.question[place.end() :]}"
