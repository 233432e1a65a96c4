"""How well turns answer a question: a few dozen signals of each, weighed by numbers that were fitted once.

The signals are those of Generative Agents (Park et al., arXiv 2304.03442), relevance, recency and importance, and what
a conversation has besides: who speaks, what stands before and after, which session it is, which days are meant.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carrel.embeddings.base import ChunkEncoder, Vectors, unit
from carrel.memory.base import Candidate, StoredTurn, TurnSource
from carrel.memory.periods import Period, asked_period, said_period, without_relative
from carrel.memory.times import times
from carrel.memory.words import ASSISTANT, USER, Asked, as_said, asked_people, asked_terms, embedded_text, naming, terms

Floats = NDArray[np.float64]
SIGNALS: Mapping[str, tuple[str, ...]] = {
    "cosine": ("cosine",),
    "cosine with the question as told": ("told", "bare"),
    "words": ("bm25", "covered", "covered_rare"),
    "people": ("speaker", "other_speaker", "names_owner"),
    "neighbours": ("before", "after", "window", "covered_window", "replies", "replies_close"),
    "session": ("session_best", "session_mean", "session_words"),
    "time": ("period", "tells_time", "told_time_fits"),
    "kind of question": ("figure", "name", "place", "photo", "reason"),
    "importance": ("importance", "length", "only_asks"),
    "recency": ("recency",),
    "second hop": ("hop", "hop_words"),
}
FEATURES: tuple[str, ...] = tuple(name for names in SIGNALS.values() for name in names)
_BEGINS = [FEATURES.index(names[0]) for names in SIGNALS.values()]  # where the features of a signal begin
_HOP_TURNS = 4
_LOOKED_AROUND = 12  # turns whose neighbours are asked for one by one, where sessions run side by side
_WITH_NEIGHBOURS = 80  # turns whose neighbours are looked at too
_DAY = 86400.0
_RECENT_DAYS = 30.0

_WHEN = re.compile(r"^\W*(?:when|what (?:day|date|month|year|time)|how long|since when|in (?:what|which) )", re.I)
_HOW_MANY = re.compile(r"\bhow (?:many|much|often|old|long|far|tall)\b|\bwhat (?:age|number|percentage)\b", re.I)
_WHERE = re.compile(r"\bwhere\b|\b(?:what|which) (?:city|country|place|town|state|area|locations?)\b", re.I)
_WHO = re.compile(
    r"^\W*who\b|\bwhose\b|\bnamed?\b|\bcalled\b|\btitle\b|\b(?:what|which) (?:books?|movies?|films?|songs?|games?"
    r"|bands?|artists?|authors?|shows?|series|teams?|pets?)\b",
    re.I,
)
_WHY = re.compile(r"^\W*why\b|\bwhat (?:motivat|inspir|made|reason|led|prompted)", re.I)
_PHOTO = re.compile(
    r"\b(?:photos?|pictures?|images?|pics?|paint\w*|draw\w*|show(?:ed|n|s)?|shared?|look(?:s|ed)? like)\b", re.I
)
_FIGURE = re.compile(r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|dozen|twice|once|couple|few)\b", re.I)
_NAMED = re.compile(r"(?<=[a-z,;] )[A-Z]\w+|[\"“][^\"”]{2,60}[\"”]")
_PLACED = re.compile(
    r"\b(?:in|at|to|from|near|around|of) (?:the )?[A-Z]\w+|\b(?:park|beach|lake|city|town|country|museum|cafe"
    r"|restaurant|mountains?|store|shop|studio|school|home|here|trip)\b"
)
_TIMED = re.compile(
    r"\b(?:yesterday|today|tonight|tomorrow|ago|last|next|this (?:week|month|year|morning|weekend|past)|january"
    r"|february|march|april|june|july|august|september|october|november|december|monday|tuesday|wednesday|thursday|friday"
    r"|saturday|sunday|weekend|in may|(?:19|20)\d\d|since|for (?:\w+ )?(?:years?|months?|weeks?))\b"
)  # in small letters: to look for both takes twice as long
_BECAUSE = re.compile(r"\b(?:because|'cause|cause|since|so that|inspir\w+|motivat\w+|wanted to|made me|reason)\b", re.I)
_SHOWN = re.compile(r"\(shares a photo|\b(?:here'?s|check (?:it|this) out|take a look|look at)\b|!\[", re.I)


@dataclass(frozen=True, slots=True)
class Question:
    """A question, taken apart once for all turns: who, what, when.

    Its vectors are as asked, as its owner would have told it, and the same without a name.
    """

    text: str
    asked: Asked
    terms: tuple[str, ...]
    period: Period | None
    vectors: Vectors  # (3, dimension)
    now: float
    words: str = ""  # the text without the times that are told from now: "last May" is no matter of words
    said: Period | None = None  # when it was said, where it tells that

    @property
    def wants_time(self) -> bool:
        """Whether it asks when, or names a time."""
        return self.period is not None or bool(_WHEN.search(self.text))

    @property
    def vector(self) -> Vectors:
        """(1, dimension): between both, for the search."""
        return unit(self.vectors[:2].sum(axis=0, keepdims=True))


def question_of(query: str, speakers: Sequence[str], encoder: ChunkEncoder, now: float) -> Question:
    """Take a question apart; ``speakers`` are those whose turns there are."""
    asked = asked_people(query, speakers)
    bare = as_said(query, asked)
    told = embedded_text(asked.owner, bare) if asked.owner else bare
    texts = list(dict.fromkeys((query, told, bare)))
    made = encoder.encode_queries(texts)
    vectors = made[[texts.index(text) for text in (query, told, bare)]]
    words = without_relative(query, now)
    about = tuple(asked_terms(words, asked.words))
    return Question(query, asked, about, asked_period(query, now), vectors, now, words, said_period(query, now))


@dataclass(frozen=True, slots=True)
class Scored:
    """Turns with their features, (turns, features), and scores; the order is that of the turns.

    ``raised`` : what the best score has gained on those turns that nobody has read.
    """

    question: Question
    turns: tuple[StoredTurn, ...]
    features: Floats
    vectors: Vectors
    scores: Floats = field(default_factory=lambda: np.empty(0))
    weights: Floats = field(default_factory=lambda: np.zeros(len(FEATURES)))
    follows: Mapping[int, int] = field(default_factory=dict)
    raised: float = 0.0

    def adjoin(self, one: StoredTurn, two: StoredTurn) -> bool:
        """Whether a turn follows another in its session, with nothing between."""
        return one.session == two.session and self.follows.get(two.id, two.id - 1) == one.id

    def column(self, name: str) -> Floats:
        """One feature of every turn."""
        values: Floats = self.features[:, FEATURES.index(name)]
        return values


def described(question: Question, found: Sequence[Candidate], source: TurnSource) -> Scored:
    """The features of every turn found, and of the neighbours of the most promising."""
    pool = {candidate.turn.id: candidate for candidate in found}
    first = sorted(found, key=lambda candidate: (-_promise(candidate), candidate.turn.id))[:_WITH_NEIGHBOURS]
    beside = [c.turn.id + step for c in first for step in (-1, 1) if c.turn.id + step not in pool]
    for turn in source.turns(sorted(set(beside))):
        pool.setdefault(turn.id, Candidate(turn))
    follows = _across(first[:_LOOKED_AROUND], pool, source)
    ordered = [pool[id] for id in sorted(pool)]
    turns = tuple(candidate.turn for candidate in ordered)
    vectors = np.nan_to_num(source.vectors([turn.id for turn in turns]))
    lexical = np.array([candidate.lexical for candidate in ordered])
    return Scored(question, turns, _features(question, turns, vectors, lexical, follows), vectors, follows=follows)


def _across(first: Sequence[Candidate], pool: dict[int, Candidate], source: TurnSource) -> Mapping[int, int]:
    """The turn that each follows in its session, by id, where others were observed in between.

    That is so in conversations that go on side by side, and where a turn was forgotten. Ids one apart need no look.
    """
    follows: dict[int, int] = {}
    for candidate in first:
        turn = candidate.turn
        near = (pool.get(turn.id + step) for step in (-1, 1))
        if any(each is not None and each.turn.session == turn.session for each in near):
            continue
        for one, two in pairwise(source.around(turn.id, 1)):
            follows[two.id] = one.id
            for each in (one, two):
                pool.setdefault(each.id, Candidate(each))
    return follows


def _promise(candidate: Candidate) -> float:
    """A first guess, by which the neighbours of a turn are worth a look."""
    return (0.0 if math.isnan(candidate.dense) else candidate.dense) + 0.05 * candidate.lexical


def _features(
    question: Question, turns: Sequence[StoredTurn], vectors: Vectors, lexical: Floats, follows: Mapping[int, int]
) -> Floats:
    columns: dict[str, Floats] = {}
    count = len(turns)
    words = [frozenset(terms(turn.text)) for turn in turns]
    cosines = np.asarray(vectors @ question.vectors.T, np.float64)  # (turns, 3)
    columns["cosine"], columns["told"], columns["bare"] = cosines.T
    columns["bm25"] = lexical / max(1e-9, float(lexical.max(initial=0.0)))
    asked = frozenset(question.terms)
    shared = [asked & said for said in words]
    _of_words(columns, question, shared)
    _of_people(columns, question, turns)
    before, after = _beside(turns, follows)
    _of_neighbours(columns, question, turns, shared, vectors, before, after)
    _of_sessions(columns, turns)
    _of_times(columns, question, turns)
    _of_kinds(columns, question, turns)
    columns["importance"] = np.array([turn.importance for turn in turns])
    columns["length"] = np.array([math.log1p(len(turn.text)) / 6 for turn in turns])
    columns["only_asks"] = np.array([float(_only_asks(turn.text)) for turn in turns])
    ages = np.array([max(0.0, question.now - turn.said_at) / _DAY for turn in turns])
    columns["recency"] = np.exp(-ages / _RECENT_DAYS)
    _of_hop(columns, question, words, vectors)
    return np.stack([columns[name] for name in FEATURES], axis=1) if count else np.zeros((0, len(FEATURES)))


def _only_asks(text: str) -> bool:
    return text.rstrip().endswith("?")


def _of_words(columns: dict[str, Floats], question: Question, shared: Sequence[frozenset[str]]) -> None:
    """The share of the question's terms that a turn has (``shared``), by how rare they are among the turns found."""
    holding = Counter(term for said in shared for term in said)
    weights = {term: math.log(1 + len(shared) / (1 + holding[term])) for term in question.terms}
    total = sum(weights.values()) or 1.0
    columns["covered"] = np.array([sum(weights[term] for term in said) / total for said in shared])
    rarest = max(weights.values(), default=0.0)
    rare = {term for term, weight in weights.items() if weight >= 0.6 * rarest and holding[term]}
    columns["covered_rare"] = np.array([len(rare & said) / max(1, len(rare)) for said in shared])


def _of_people(columns: dict[str, Floats], question: Question, turns: Sequence[StoredTurn]) -> None:
    owner, people = question.asked.owner, question.asked.people
    columns["speaker"] = np.array([float(question.asked.owns(turn.speaker)) for turn in turns])
    columns["other_speaker"] = np.array(
        [float(turn.speaker in people and not question.asked.owns(turn.speaker)) for turn in turns]
    )
    if owner is None or owner in (USER, ASSISTANT):
        columns["names_owner"] = np.zeros(len(turns))
        return
    search = naming(owner).search
    columns["names_owner"] = np.array([float(search(turn.text) is not None) for turn in turns])


def _beside(turns: Sequence[StoredTurn], follows: Mapping[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The place of the turn before and after each, in its session; -1 where that was not found."""
    before = np.full(len(turns), -1)
    after = np.full(len(turns), -1)
    places = {turn.id: place for place, turn in enumerate(turns)}
    for place, turn in enumerate(turns):
        last = places.get(follows.get(turn.id, turn.id - 1), -1)
        if last >= 0 and turns[last].session == turn.session:
            before[place], after[last] = last, place
    return before, after


def _of_neighbours(
    columns: dict[str, Floats], question: Question, turns: Sequence[StoredTurn], shared: Sequence[frozenset[str]],
    vectors: Vectors, before: NDArray[np.int64], after: NDArray[np.int64],
) -> None:  # fmt: skip
    cosine = columns["cosine"]
    columns["before"] = np.where(before >= 0, cosine[before], 0.0)
    columns["after"] = np.where(after >= 0, cosine[after], 0.0)
    padded = np.vstack([vectors, np.zeros((1, vectors.shape[1]), vectors.dtype)])
    window = 0.5 * (padded[before] + padded[after]) + vectors  # -1 is the row of zeros
    lengths = np.sqrt(np.einsum("ij,ij->i", window, window, dtype=np.float64))
    columns["window"] = (window @ question.vectors[0]) / np.where(lengths > 0, lengths, 1.0)
    wide = [len(said | shared[last] if last >= 0 else said) for said, last in zip(shared, before.tolist(), strict=True)]
    columns["covered_window"] = np.array(wide) / max(1, len(question.terms))
    replies = [
        float(before[i] >= 0 and turns[before[i]].speaker != turns[i].speaker and _only_asks(turns[before[i]].text))
        for i in range(len(turns))
    ]
    columns["replies"] = np.array(replies)
    columns["replies_close"] = columns["replies"] * columns["before"]


def _of_sessions(columns: dict[str, Floats], turns: Sequence[StoredTurn]) -> None:
    """How near the session as a whole is: its best turn, its best three, the terms that it covers."""
    numbers: dict[str, int] = {}
    of = np.array([numbers.setdefault(turn.session, len(numbers)) for turn in turns], np.int64)
    order = np.lexsort((-columns["cosine"], of))  # a session after the other, the nearest turn of each first
    ranked, cosines = of[order], columns["cosine"][order]
    begins = np.searchsorted(ranked, np.arange(len(numbers)))
    first = np.arange(len(turns)) - begins[ranked] < 3
    mean, covered = np.zeros(len(numbers)), np.zeros(len(numbers))
    np.add.at(mean, ranked[first], cosines[first])
    np.maximum.at(covered, of, columns["covered"])
    columns["session_best"] = cosines[begins][of]
    columns["session_mean"] = (mean / np.maximum(1, np.bincount(ranked[first], minlength=len(numbers))))[of]
    columns["session_words"] = covered[of]


def _of_times(columns: dict[str, Floats], question: Question, turns: Sequence[StoredTurn]) -> None:
    period = question.period
    for name in ("tells_time", "period", "told_time_fits"):
        columns[name] = np.zeros(len(turns))
    if not question.wants_time:
        return
    timed = np.array([float(bool(_TIMED.search(turn.text.lower()))) for turn in turns])
    columns["tells_time"] = timed * bool(_WHEN.search(question.text))
    if period is None:
        return
    columns["period"] = np.array([period.nearness(turn.said_at, turn.said_at) for turn in turns])
    for place, turn in enumerate(turns):
        if timed[place]:
            meant = [time.seconds() for time in times(turn.text, turn.said_at)]
            fits = any(end - start < 100 * _DAY and period.nearness(start, end) == 1.0 for start, end in meant)
            columns["told_time_fits"][place] = float(fits)


def _of_kinds(columns: dict[str, Floats], question: Question, turns: Sequence[StoredTurn]) -> None:
    for name, asks, tells in (
        ("figure", _HOW_MANY, _FIGURE), ("name", _WHO, _NAMED), ("place", _WHERE, _PLACED),
        ("photo", _PHOTO, _SHOWN), ("reason", _WHY, _BECAUSE),
    ):  # fmt: skip
        columns[name] = np.zeros(len(turns))
        if asks.search(question.text):
            columns[name] = np.array([float(bool(tells.search(turn.text))) for turn in turns])


def _of_hop(columns: dict[str, Floats], question: Question, words: Sequence[frozenset[str]], vectors: Vectors) -> None:
    """What is near to the best so far: the question with its first turns, after Rocchio (1971)."""
    first = columns["cosine"] + columns["told"] + 0.2 * columns["speaker"] + 0.3 * columns["covered"]
    best = np.argsort(-first, kind="stable")[:_HOP_TURNS]
    centre = vectors[best].astype(np.float64).mean(axis=0) if len(best) else np.zeros(vectors.shape[1])
    length = float(np.linalg.norm(centre)) or 1.0
    columns["hop"] = (vectors @ centre) / length
    known = frozenset(question.terms)
    told = Counter(word for place in best for word in words[place] - known)
    shared = {word for word, often in told.items() if often >= 2}
    columns["hop_words"] = np.array([len(shared & said) / max(1, len(shared)) for said in words])


@lru_cache(maxsize=1)
def _content() -> Mapping[str, Any]:
    content: dict[str, Any] = json.loads(files("carrel.memory").joinpath("ranking.json").read_text(encoding="utf-8"))
    return content


def fitted() -> Mapping[str, float]:
    """The weights of the signals, as they were fitted (benchmarks/memory_tuning.py)."""
    weights: Mapping[str, float] = _content()["weights"]
    return weights


def penalty() -> float:
    """What they were fitted with."""
    return float(_content()["penalty"])


def fitted_on() -> frozenset[str]:
    """Fingerprints of the dialogues that they were fitted on, so that these are not taken for a test."""
    return frozenset(_content()["fingerprints"])


def scored(described: Scored, weights: Mapping[str, float] | None = None) -> Scored:
    """The turns with a score each: log-odds that a turn is evidence, up to a constant of the question."""
    chosen = fitted() if weights is None else weights
    weighed = np.array([chosen.get(name, 0.0) for name in FEATURES])
    return replace(described, scores=described.features @ weighed, weights=weighed)


def reasons(found: Scored, place: int, most: int = 2) -> str:
    """The signals that set a turn above the others found, the strongest first; empty where none does."""
    above = (found.features[place] - found.features.mean(axis=0)) * found.weights
    told = dict(zip(SIGNALS, np.add.reduceat(above, _BEGINS).tolist(), strict=True))
    ranked = sorted((name for name, value in told.items() if value > 0), key=lambda name: -told[name])
    return ", ".join(ranked[:most])
