"""One epoch of training: for every question a group of windows with the labels of each head."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from config import Config
from data import Question, sentence_spans
from swaps import Swaps

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Window:
    """One input of the reader and its labels; None where a head has nothing to learn from it."""

    question: str
    prefix: str
    text: str
    relevance: float | None
    answerable: float | None
    keep: Spans | None  # character spans of ``text`` to keep
    answer: tuple[int, int] | None  # character span of ``text``
    span_known: bool  # whether the answer (or that there is none) trains the span head
    retrieved: bool = False  # whether it is a passage about something else, as retrieval brings them


Group = list[Window]


class Examples:
    """Draws the groups of an epoch; the same seed and epoch give the same groups."""

    def __init__(
        self,
        questions: Sequence[Question],
        candidates: Sequence[dict[str, Any]],
        pool: Sequence[dict[str, Any]],
        fillers: Sequence[dict[str, Any]],
        config: Config,
    ) -> None:
        self.config, self.fillers = config, list(fillers)
        self.questions = [q for q in questions if not q.held_out]
        hidden = {q.document for q in questions if q.held_out}
        self.pool = {row["document"]: row for row in pool if row["document"] not in hidden}
        self.keys = sorted(self.pool)
        self.candidates = {row["id"]: row["candidates"] for row in candidates}
        self.swaps = Swaps(self.questions, config)

    def epoch(self, number: int) -> list[Group]:
        """Every question and every sentence pair once, in random order."""
        groups = []
        for question in self.questions:
            for copy in range(self.config.copies if question.source == "squad2" else 1):
                chance = random.Random(f"{self.config.seed}:{number}:{question.id}{':' * copy}")
                groups.append(self._question(question, chance))
        for index, row in enumerate(self.fillers):
            chance = random.Random(f"{self.config.seed}:{number}:pair{index}")
            if self.config.pairs >= 1 or chance.random() < self.config.pairs:
                groups.append(self._pair(row, chance))
        random.Random(f"{self.config.seed}:{number}").shuffle(groups)
        return groups

    def _question(self, q: Question, chance: random.Random) -> Group:
        titled = q.source != "squad1" and chance.random() < self.config.titled
        start, end = self._piece(q, chance)
        text = q.context[start:end]
        inside = tuple((s - start, e - start) for s, e in q.answers if start <= s and e <= end)
        negatives = self._negatives(q, chance, titled)
        prefix = q.title if titled else ""
        if not inside:  # an unanswerable question about its own paragraph, which is no bad one to find
            return [labelled(q.question, prefix, text, (), relevance=None), *negatives[:1]]
        right = labelled(q.question, prefix, text, (chance.choice(inside),), relevance=1.0, keep=inside)
        draw = chance.random()
        if draw < self.config.removed_sentence:
            rest = without(text, inside)
            if rest:
                return [right, labelled(q.question, prefix, rest, (), relevance=0.0), *negatives[:-1]]
        elif draw < self.config.removed_sentence + self.config.swapped_question:
            changed = self.swaps.changed(q, chance)
            if changed:
                return [labelled(changed, prefix, text, (), relevance=None), *negatives[:1]]
        elif draw < self.config.removed_sentence + self.config.swapped_question + self.config.contrast:
            return [right, *self._contrast(q, prefix, text, chance), *negatives]
        return [right, *negatives]

    def _contrast(self, q: Question, prefix: str, text: str, chance: random.Random) -> Group:
        """The same with one thing changed, in the question or in the passage, so that this does not answer that."""
        asked, passage = q.question, self.swaps.rewritten(q, text, chance) if chance.random() < 0.4 else None
        if passage is None:
            passage, changed = text, self.swaps.changed(q, chance)
            if changed is None:
                return []
            asked = changed
        return [labelled(asked, prefix, passage, (), relevance=None)]

    def _piece(self, q: Question, chance: random.Random) -> tuple[int, int]:
        """The whole context, or the chunk of it with an answer."""
        chunks = self.pool[q.document]["chunks"]
        whole = chance.random() < self.config.whole_context
        if len(chunks) == 1 or (whole and len(q.context) < 4 * self.config.window):
            return 0, len(q.context)
        fitting = [(s, e) for s, e in chunks if any(s <= a and b <= e for a, b in q.answers)]
        start, end = chance.choice(fitting or [tuple(chunk) for chunk in chunks])
        return start, end

    def _negatives(self, q: Question, chance: random.Random, titled: bool) -> Group:
        """One from the very top of the list, the others from all of it, now and then any chunk at all."""
        wrong = [c for c in self.candidates[q.id] if c["label"] == 0 and c["document"] in self.pool]
        if not q.answers:
            wrong = [c for c in wrong if c["document"] != q.document]
        out: Group = []
        for number in range(self.config.negatives):
            if not wrong or chance.random() < 0.1:
                row = self.pool[chance.choice(self.keys)]
                if row["document"] == q.document:
                    continue
                start, end = chance.choice(row["chunks"])
            else:
                found = wrong.pop(chance.randrange(min(5, len(wrong)) if number == 0 else len(wrong)))
                row, start, end = self.pool[found["document"]], found["start"], found["end"]
            text = row["text"][start:end]
            found_there = labelled(q.question, row["title"] if titled else "", text, (), relevance=0.0)
            out.append(replace(found_there, retrieved=True))
        return out

    def _pair(self, row: dict[str, Any], chance: random.Random) -> Group:
        """The sentence among others like the question, against others alone."""
        others = list(row["fillers"])
        chance.shuffle(others)
        count = chance.randint(1, 5)
        mine, rest = others[:count], others[count : 2 * count + 1]
        place = chance.randint(0, len(mine))
        mine.insert(place, row["sentence"])
        start = sum(len(sentence) + 1 for sentence in mine[:place])
        text = " ".join(mine)
        marked = row.get("answer")
        answer = (start + marked[0], start + marked[1]) if marked else None
        keep = ((start, start + len(row["sentence"])),)
        right = Window(row["question"], "", text, 1.0, 1.0, keep, answer, answer is not None)
        if not rest:
            return [right]
        return [right, replace(labelled(row["question"], "", " ".join(rest), (), relevance=0.0), retrieved=True)]


def labelled(
    question: str, prefix: str, text: str, answer: Spans, *, relevance: float | None, keep: Spans = ()
) -> Window:
    kept = tuple((s.start, s.end) for s in sentence_spans(text, keep)) if keep else ()
    return Window(
        question, prefix, text, relevance, float(bool(answer)), kept, answer[0] if answer else None, span_known=True
    )


def without(text: str, answers: Iterable[tuple[int, int]]) -> str:
    """The text without the sentences that hold an answer, or with any of their words."""
    wanted = [text[start:end].lower() for start, end in answers]
    for sentence in reversed(sentence_spans(text, answers)):
        text = text[: sentence.start] + text[sentence.end :]
    rest = text.strip()
    return "" if any(answer in rest.lower() for answer in wanted) else rest
