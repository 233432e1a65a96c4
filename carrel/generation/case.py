"""One claim and what the passages have of it: the evidence chosen, and how well its numbers and names fit there."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carrel.generation.claims import Claim, Token, claim_of, runs_of
from carrel.generation.evidence import Evidence, PassageIndex, Source

HARD = frozenset({"number", "year", "month", "name"})
COUNTS = frozenset({"#1"})  # one, first: often no number
MOST_TARGETS = 2  # sentences that a claim is laid beside
MOST_EVIDENCE = 3  # sentences that may together support one
CLAIM_REACH, PASSAGE_REACH = 4.0, 12.0  # words; how fast the context of a word fades
ASKED_DISTANCE = 3.0  # words between an answer and the words of its question
TITLE_DISTANCE = 12.0
HOME_SHARE = 0.8  # of the weight of a claim's words, in one sentence
OWN_CONTEXT = 5  # words of a claim that need no help of its question
LONGEST_BARE = 8  # words of an answer that is no sentence
_VERBS = frozenset(
    "is are was were be been has have had did does do can could will would should may might must it he she they this"
    " that there these those".split()
)


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a number or name of a claim fits where it stands in the passages, and how well the best rival would.

    ``own`` and ``rival`` are shares of the weight of the words around it in the claim; ``place`` the passage and the
    sentence where it fits best.
    """

    token: Token
    own: float
    rival: float
    instead: str
    place: tuple[int, int] | None

    @property
    def worse_by(self) -> float:
        """The logarithm of how much better the rival fits, between -1 and 2.5."""
        return min(max(math.log((self.rival + 0.05) / (self.own + 0.05)), -1.0), 2.5)

    @property
    def is_worse(self) -> bool:
        """Whether a rival fits better. What stands near the words of a claim is often a name of another kind."""
        return self.rival > (2.0 * self.own + 0.1 if self.token.kind == "name" else 1.1 * self.own + 0.03)


class Case:
    """One claim with its question and the evidence for it.

    ``new`` are the telling words that its question does not have, ``asked`` those of the question. A question counts
    for a word's place only where the claim is an answer to it: no sentence of its own, or the question said again.
    """

    def __init__(self, claim: Claim, evidence: Evidence, question: str | None) -> None:
        self.claim, self.evidence = claim, evidence
        said = claim_of(question, evidence.known_names) if question else None
        asked = said.content if said else ()
        self.asks_negation = said is not None and any(token.key == "not" for token in said.tokens)
        self.asked: Mapping[str, Token] = {token.key: token for token in asked}
        own = {token.key for token in claim.content}
        new = [token for token in claim.content if token.key not in self.asked] or list(claim.content)
        self.new: Mapping[str, Token] = {token.key: token for token in new}
        self.is_bare = len(claim.tokens) <= LONGEST_BARE and not any(t.text.lower() in _VERBS for t in claim.tokens)
        self.answers = bool(asked) and (self.is_bare or 2 * len(own & set(self.asked)) >= len(self.asked))
        weight = evidence.weight
        wanted = {key: weight(key) * (2 if t.kind in HARD else 1) for key, t in self.new.items()}
        context = {key: 0.5 * weight(key) for key in [*self.asked, *own] if key not in self.new}
        self.ranked = evidence.rank(wanted | context, 2 * MOST_EVIDENCE)
        self.chosen = self._choose(wanted | context)
        self.covered = self._covered()
        self.homes = self._homes()
        self.fits = [self._fit(item) for item in self._items()]
        for fit in self.fits:
            self._add(fit)

    @property
    def sources(self) -> list[Source]:
        return [self.evidence.sources[index] for index in self.chosen]

    @property
    def targets(self) -> list[list[Claim]]:
        """What the claim may be laid beside: the first sentences of its evidence, alone and each with a neighbour."""
        spans: dict[tuple[int, int, int], None] = {}
        for source in self.sources[:MOST_TARGETS]:
            sources = self.evidence.passages[source.number].sources
            at = sources.index(source)
            spans |= {(source.number, at, at + 1): None}
            spans |= {(source.number, low, low + 2): None for low in (at - 1, at) if 0 <= low <= len(sources) - 2}
        return [
            [source.claim for source in self.evidence.passages[number].sources[low:high]] for number, low, high in spans
        ]

    @property
    def coverage(self) -> float:
        """The share of the weight of what the claim adds to its question that stands in the evidence."""
        weight = self.evidence.weight
        total = sum(weight(key) for key in self.new)
        return sum(weight(key) for key in self.new if key in self.covered) / total

    def _covered(self) -> frozenset[str]:
        return frozenset[str]().union(*(self.evidence.keys(index) for index in self.chosen))

    def _homes(self) -> frozenset[int]:
        """The sentences that have nearly all the claim has."""
        weights = {token.key: self.evidence.weight(token.key) for token in self.claim.content}
        least = HOME_SHARE * sum(weights.values())
        if len(weights) < OWN_CONTEXT:
            return frozenset()
        return frozenset(
            index for index in self.chosen if sum(weights.get(k, 0) for k in self.evidence.keys(index)) >= least
        )

    def _choose(self, wanted: Mapping[str, float]) -> list[int]:
        """The few sentences that together have most of what is wanted."""
        chosen: list[int] = []
        missing, total = dict(wanted), sum(wanted.values())
        ranked: Sequence[int] = self.ranked
        while missing and len(chosen) < MOST_EVIDENCE:
            best = next((index for index in ranked if index not in chosen), None)
            if best is None:
                break
            keys = self.evidence.keys(best)
            gain = sum(value for key, value in missing.items() if key in keys)
            if chosen and gain < 0.1 * total:
                break
            chosen.append(best)
            missing = {key: value for key, value in missing.items() if key not in keys}
            ranked = self.evidence.rank(missing, MOST_EVIDENCE + 1)
        return chosen

    def _add(self, fit: Fit) -> None:
        """Take the sentence where a word fits best into the evidence."""
        if fit.place is None or fit.token.key in self.covered:
            return
        number, sentence = fit.place
        index = self.evidence.index_of(self.evidence.passages[number].sources[sentence])
        self.chosen = [*self.chosen[: MOST_EVIDENCE - 1], index]
        self.covered = self._covered()

    def _items(self) -> list[tuple[Token, ...]]:
        """The numbers and names of the claim that its question does not have, a name with all its words."""
        items: list[tuple[Token, ...]] = [
            (t,) for t in self.claim.tokens if t.kind in ("number", "year", "month") and t.key in self.new
        ]
        return items + [run for run in runs_of(self.claim.tokens) if any(token.key in self.new for token in run)]

    def _fit(self, item: tuple[Token, ...]) -> Fit:
        keys = {token.key for token in item}
        context = self._context(item)
        total = sum(context.values()) or 1.0
        own, rival, instead, place = 0.0, 0.0, "", None
        homes = {self.evidence.at_place(index) for index in self.homes if keys & self.evidence.keys(index)}
        for passage in self._nearby(keys):
            places, rivals = self._places(passage, keys, item[0].kind)
            if homes:
                rivals = [word for word in rivals if (passage.number, word[0]) in homes]
            if places:
                fits = _fits(passage, context, [position for _, position, _ in places])
                best = int(fits.argmax())
                if fits[best] > own or place is None:
                    own, place = float(fits[best]), (passage.number, places[best][0])
            if rivals:
                fits = _fits(passage, context, [position for _, position, _ in rivals])
                best = int(fits.argmax())
                if fits[best] > rival:
                    rival, instead = float(fits[best]), rivals[best][2].text
        return Fit(item[0], own / total, rival / total, instead, place)

    def _context(self, item: tuple[Token, ...]) -> dict[str, float]:
        """The other words of the claim, the nearest with the most weight; of its question, where it has few."""
        tokens = self.claim.tokens
        first, last = tokens.index(item[0]), tokens.index(item[-1])
        keys = {token.key for token in item}
        context: dict[str, float] = {}
        runs = Counter(token.run for token in tokens)
        for at, token in enumerate(tokens):
            if token.kind == "stop" or token.key in keys:
                continue
            words = runs[token.run] if token.run >= 0 else 1
            value = self.evidence.weight(token.key) * math.exp(-max(first - at, at - last, 0) / CLAIM_REACH) / words
            context[token.key] = max(value, context.get(token.key, 0.0))
        for key in self.asked if self.answers and len(context) < OWN_CONTEXT else ():
            if key not in keys:
                value = self.evidence.weight(key) * math.exp(-ASKED_DISTANCE / CLAIM_REACH)
                context[key] = max(value, context.get(key, 0.0))
        return context

    def _nearby(self, keys: Iterable[str]) -> list[PassageIndex]:
        """The passages of the best sentences, and of those that have the words themselves."""
        found = [*self.chosen, *self.ranked, *self.evidence.rank(dict.fromkeys(sorted(keys), 1.0), MOST_EVIDENCE)]
        numbers = dict.fromkeys(self.evidence.sources[index].number for index in found)
        return [self.evidence.passages[number] for number in numbers]

    def _places(
        self, passage: PassageIndex, keys: set[str], kind: str
    ) -> tuple[list[tuple[int, int, Token]], list[tuple[int, int, Token]]]:
        """Where the item stands in a passage, and where others of its kind do that neither claim nor question has."""
        said = {token.key for token in self.claim.tokens} | set(self.asked)
        own = [word for key in sorted(keys) for word in passage.by_key.get(key, ())]
        alike = passage.by_kind.get(kind, ())
        barred = {(sentence, token.run) for sentence, _, token in alike if token.run >= 0 and token.key in said}
        said |= COUNTS | passage.place
        rivals = [word for word in alike if word[2].key not in said and (word[0], word[2].run) not in barred]
        return own, rivals


def _fits(passage: PassageIndex, context: Mapping[str, float], at: Sequence[int]) -> NDArray[np.float64]:
    """(places,): the weight of the context that stands near each place."""
    places = np.array(at, np.float64)
    total = np.zeros(len(places))
    for key, value in context.items():
        distances = passage.distances(key, places)
        if key in passage.place:
            distances = np.minimum(distances, TITLE_DISTANCE)
        total += value * np.exp(-distances / PASSAGE_REACH)
    return total
