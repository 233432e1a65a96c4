"""Synthetic text: facts and questions about them, and copying. Everything is drawn from a generator that the caller
seeds, so the same seed gives the same rows.

Look-up is the associative recall of Arora et al. (Zoology, arXiv 2312.04927), here with keys of two tokens; copying
is what induction heads do (Olsson et al., arXiv 2209.11895). Many questions are asked in one row, because a row with
one answer would teach too little for its length. No row is padded: what no fact or question fills, words that say
nothing do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.needle_lm.language import (
    AGAIN,
    ANSWER,
    ATTRIBUTES,
    BEGIN,
    END,
    ENTITIES,
    FIELDS,
    FILLER,
    FIRST_ENTITY,
    FIRST_FIELD,
    FIRST_FILLER,
    FIRST_VALUE,
    QUESTION,
    STOP,
    UNKNOWN,
    VALUES,
    VOCABULARY,
)

IntArray = NDArray[np.int64]
FACT = 4  # tokens: entity, field, value, full stop
ASKED = (4, 5)  # tokens of a question of one hop, of two: "?", entity, fields, "="
SHORTEST = 28  # tokens of a row: the least that holds facts and a question
NOTHING, LOOK_UP, TWO_HOP, COPY, CLOSE = range(5)
"""What a token is: not to be predicted; the answer of a look-up, of two; a word copied; the end of an answer."""
KINDS = {"look_up": LOOK_UP, "two_hop": TWO_HOP, "copy": COPY}
_FILLED = 0.4  # share of the rows with words that say nothing between the facts
_WOVEN = 0.5  # share of the rows with questions between the facts, not after them


@dataclass(frozen=True)
class Facts:
    """What a context says: token ids, a row a fact. No two facts have the same entity and field."""

    entities: IntArray  # (N,)
    fields: IntArray  # (N,)
    values: IntArray  # (N,)

    def __len__(self) -> int:
        return len(self.entities)


@dataclass(frozen=True)
class Question:
    """A question and its one right answer."""

    tokens: tuple[int, ...]  # from "?" to "="
    answer: int
    kind: int  # LOOK_UP or TWO_HOP
    facts: tuple[int, ...]  # rows of the facts it rests on, in the order of the hops


@dataclass(frozen=True)
class Batch:
    """Rows of one length, and which of their tokens are to be predicted."""

    ids: IntArray  # (B, S)
    kinds: NDArray[np.int8]  # (B, S): of the token at that place


@dataclass(frozen=True)
class Exam:
    """A context and questions about it, each to be answered on its own, at the same place after the context."""

    context: IntArray  # (S,)
    questions: IntArray  # (Q, T)
    answers: IntArray  # (Q,)
    places: IntArray  # (Q,) where in the context the answer stands


def draw_facts(chance: np.random.Generator, count: int) -> Facts:
    """Facts in random order: of one entity between one and eight on average, a quarter of them relations.

    Parameters
    ----------
    chance
        The generator to draw from.
    count
        How many; at most ``len(ENTITIES) * len(FIELDS)``.
    """
    fewest = max(2, -(-count // len(FIELDS)))
    known = int(np.clip(np.ceil(count / chance.uniform(1, 8)), fewest, len(ENTITIES)))
    people = chance.choice(len(ENTITIES), known, replace=False)
    cells = chance.choice(known * len(FIELDS), count, replace=False)
    who, field = np.divmod(cells, len(FIELDS))
    is_link = field >= len(ATTRIBUTES)
    values = FIRST_VALUE + chance.integers(len(VALUES), size=count)
    described = np.unique(who[~is_link])  # those to whom a second hop can lead
    if len(described) < 2:
        described = np.arange(known)
    drawn = chance.integers(len(described), size=count)
    oneself = described[drawn] == who
    other = described[(drawn + oneself) % len(described)]
    values[is_link] = FIRST_ENTITY + people[other[is_link]]
    return Facts(FIRST_ENTITY + people[who], FIRST_FIELD + field, values)


def one_hop(chance: np.random.Generator, facts: Facts, count: int) -> list[Question]:
    """Questions about ``count`` different facts, or about all of them where there are fewer."""
    chosen = chance.permutation(len(facts))[:count]
    return [
        Question((QUESTION, int(facts.entities[row]), int(facts.fields[row]), ANSWER), int(facts.values[row]),
                 LOOK_UP, (int(row),))
        for row in chosen
    ]  # fmt: skip


def two_hop(chance: np.random.Generator, facts: Facts, count: int) -> list[Question]:
    """Questions that follow a relation to another entity and ask for an attribute of that one; at most ``count``."""
    attributes: dict[int, list[int]] = {}
    for row in np.flatnonzero(facts.fields < FIRST_FIELD + len(ATTRIBUTES)):
        attributes.setdefault(int(facts.entities[row]), []).append(int(row))
    links = np.flatnonzero(facts.fields >= FIRST_FIELD + len(ATTRIBUTES))
    questions: list[Question] = []
    for link in chance.permutation(links):
        goals = attributes.get(int(facts.values[link]))
        if goals and len(questions) < count:
            goal = goals[chance.integers(len(goals))]
            tokens = (QUESTION, int(facts.entities[link]), int(facts.fields[link]), int(facts.fields[goal]), ANSWER)
            questions.append(Question(tokens, int(facts.values[goal]), TWO_HOP, (int(link), goal)))
    return questions


def look_up_row(chance: np.random.Generator, length: int, two_hop_share: float) -> tuple[IntArray, NDArray[np.int8]]:
    """One row of facts and questions: ids and kinds, each ``(length,)``.

    ``two_hop_share`` of the questions have two hops, as far as the facts have relations to follow.
    """
    room = length - 1
    filler = int(room * chance.uniform(0.1, 0.9)) if chance.random() < _FILLED else 0
    rest = room - min(filler, room - (SHORTEST - 1))
    asked = max(1, min(int(rest * chance.uniform(0.1, 0.6)) // 6, rest // 11))
    facts = draw_facts(chance, (rest - asked * (ASKED[1] + 2)) // FACT)
    questions = two_hop(chance, facts, int(chance.binomial(asked, two_hop_share)))
    questions += one_hop(chance, facts, asked - len(questions))
    items, kinds = _in_order(chance, facts, questions, woven=chance.random() < _WOVEN)
    ids, starts = _laid_out(chance, items, length)
    marks = np.zeros(length, np.int8)
    for start, item, kind in zip(starts, items, kinds, strict=True):
        if kind != NOTHING:
            marks[start + len(item) - 2], marks[start + len(item) - 1] = kind, CLOSE
    return ids, marks


def copy_row(chance: np.random.Generator, length: int) -> tuple[IntArray, NDArray[np.int8]]:
    """Random words, ``again``, and a part of them once more: ids and kinds, each ``(length,)``.

    No two neighbours stand twice in the first part, so two words say which part is copied; all after them is to be
    predicted. Where the part begins is random: else a fixed distance would do, and nothing be looked up.
    """
    first = int(length * chance.uniform(0.5, 0.8))
    again = length - 2 - first
    words = chance.integers(FIRST_FIELD, len(VOCABULARY), size=first)
    while True:
        pairs = words[:-1] * len(VOCABULARY) + words[1:]
        order = np.argsort(pairs, kind="stable")
        repeated = order[1:][pairs[order][1:] == pairs[order][:-1]]
        if not len(repeated):
            break
        words[repeated] = chance.integers(FIRST_FIELD, len(VOCABULARY), size=len(repeated))
    start = int(chance.integers(first - again + 1))
    ids = np.concatenate([[BEGIN], words, [AGAIN], words[start : start + again]])
    kinds = np.zeros(length, np.int8)
    kinds[first + 4 :] = COPY
    return ids, kinds


def batch(chance: np.random.Generator, length: int, rows: int, two_hop_share: float, copying: float) -> Batch:
    """Rows of ``length`` tokens; ``copying`` of them copy, the others ask ``two_hop_share`` questions of two hops."""
    made = [
        copy_row(chance, length) if chance.random() < copying else look_up_row(chance, length, two_hop_share)
        for _ in range(rows)
    ]
    return Batch(np.stack([ids for ids, _ in made]), np.stack([kinds for _, kinds in made]))


def exam(chance: np.random.Generator, length: int, count: int, *, hops: int = 1, filled: float = 0.0) -> Exam:
    """A context that has ``length`` tokens together with any one of its ``count`` questions.

    Parameters
    ----------
    chance
        The generator to draw from.
    length
        Tokens of the context and a question up to its "=".
    count
        Questions; fewer where the facts have no more to ask.
    hops
        1 or 2.
    filled
        Share of the context that says nothing. At 0 it is facts and nothing else.
    """
    size = length - ASKED[hops - 1]
    facts = draw_facts(chance, max(2, int((size - 1) * (1 - filled)) // FACT))
    questions = (one_hop if hops == 1 else two_hop)(chance, facts, count)
    items, _ = _in_order(chance, facts, [], woven=False)
    context, starts = _laid_out(chance, items, size)
    return Exam(
        context=context,
        questions=np.array([q.tokens for q in questions], np.int64).reshape(len(questions), ASKED[hops - 1]),
        answers=np.array([q.answer for q in questions], np.int64),
        places=np.array([starts[q.facts[-1]] + 2 for q in questions], np.int64),
    )


def _in_order(
    chance: np.random.Generator, facts: Facts, questions: Sequence[Question], *, woven: bool
) -> tuple[list[tuple[int, ...]], list[int]]:
    """Facts and answered questions as runs of tokens, each question after the facts it rests on; and their kinds."""
    places: list[list[Question]] = [[] for _ in range(len(facts) + 1)]
    for number in chance.permutation(len(questions)):
        question = questions[number]
        earliest = max(question.facts) + 1
        places[int(chance.integers(earliest, len(facts) + 1)) if woven else len(facts)].append(question)
    items: list[tuple[int, ...]] = []
    kinds: list[int] = []
    columns = zip(facts.entities.tolist(), facts.fields.tolist(), facts.values.tolist(), strict=True)
    for place, said in enumerate([*columns, None]):
        items += [(*question.tokens, question.answer, END) for question in places[place]]
        kinds += [question.kind for question in places[place]]
        if said is not None:
            items.append((*said, STOP))
            kinds.append(NOTHING)
    return items, kinds


def _laid_out(chance: np.random.Generator, items: Sequence[tuple[int, ...]], length: int) -> tuple[IntArray, list[int]]:
    """``<s>`` and the items, with words that say nothing in runs before some of them; and where each item starts."""
    missing = length - 1 - sum(map(len, items))
    gaps = np.zeros(len(items), np.int64)
    runs = int(chance.integers(1, len(items) + 1))
    where = chance.choice(len(items), runs, replace=False)
    gaps[where] = chance.multinomial(missing, np.full(runs, 1 / runs))
    filler = FIRST_FILLER + chance.integers(len(FILLER), size=missing)
    filler[chance.random(missing) < 0.2] = UNKNOWN
    told, ids, starts, used = filler.tolist(), [BEGIN], [], 0
    for item, gap in zip(items, gaps.tolist(), strict=True):
        ids += told[used : used + gap]
        used += gap
        starts.append(len(ids))
        ids += item
    return np.array(ids, np.int64), starts
