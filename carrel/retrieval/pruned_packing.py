"""Packing passages whose sentences have been scored: what answers first, what surrounds it where there is room."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from carrel.retrieval.merging import keeping, merge_spans
from carrel.retrieval.packing import LEAST_ROOM_TOKENS, Packed, Packer
from carrel.tokens import Tokenizer
from carrel.types import Order, Passage, Span

_LEAST_SENTENCE_TOKENS = 4
_MOST_TRIES = 12  # sentences of one passage that are tried in what room is left


@dataclass(frozen=True, slots=True)
class ScoredPassage:
    """A passage taken apart: its sentences (document offsets, in order) and a score from 0 to 1 for each.

    ``beside`` are, for each sentence, those that it brings with it (carrel.compression.companions).
    """

    passage: Passage
    sentences: tuple[Span, ...]
    scores: tuple[float, ...]
    beside: tuple[frozenset[int], ...]

    def above(self, threshold: float) -> frozenset[int]:
        """The sentences that score at least ``threshold``."""
        return frozenset(index for index, score in enumerate(self.scores) if score >= threshold)

    def understood(self, chosen: Iterable[int]) -> frozenset[int]:
        """These sentences and what they bring with them."""
        return frozenset(chosen).union(*(self.beside[index] for index in chosen))

    def best_first(self) -> list[int]:
        return sorted(range(len(self.scores)), key=lambda index: (-self.scores[index], index))

    def with_sentences(self, chosen: frozenset[int]) -> Passage:
        """The passage with these sentences kept; itself when they are all."""
        if len(chosen) == len(self.sentences):
            return self.passage
        return keeping(self.passage, (self.sentences[index] for index in chosen))


Key = tuple[str, int, int]


def key_of(passage: Passage) -> Key:
    """What tells a passage from all others of a collection."""
    return passage.document_id, passage.start, passage.end


class PruningPacker(Packer):
    """Packs in three rounds: the sentences that pass the threshold, passage by passage in rank order; then, in the
    same order, what was left out around them; then passages that nobody scored.

    So a small budget holds the telling sentences of many passages, and one that has room for everything holds
    everything: nothing is left out for its own sake.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        budget: int,
        question: str,
        order: Order,
        known: Mapping[str, int],
        scored: Mapping[Key, ScoredPassage],
        threshold: float,
    ) -> None:
        super().__init__(tokenizer, budget, question, order, known)
        self.scored, self.threshold = scored, threshold
        self._chosen: dict[int, frozenset[int] | None] = {}  # of each passage, by rank; None: whole
        self._ranked: list[Passage] = []
        self._made: dict[tuple[int, frozenset[int] | None], Passage] = {}

    def pack(self, ranked: Iterable[Passage]) -> Packed:
        """As in Packer; ``cut`` says that something was left out for want of room."""
        rest: list[Passage] = []
        passages = iter(ranked)
        for passage in passages:
            if key_of(passage) not in self.scored:
                rest.append(passage)
                break
            self._ranked.append(passage)
            self._take_telling(len(self._ranked) - 1)
        if not self._ranked:
            return super().pack([*rest, *passages])
        for rank in range(len(self._ranked)):
            self._restore(rank)
        complete = len(self._chosen) == len(self._ranked) and all(self._is_whole(rank) for rank in self._chosen)
        if complete or self._room() >= LEAST_ROOM_TOKENS:
            packed = self.continued(self._passages(), [*rest, *passages], first=self._ranked[0])
        else:
            packed = self.continued(self._passages(), [], first=self._ranked[0])
        taken = len(self._chosen) + packed.taken
        return Packed(packed.passages, packed.text, packed.tokens, taken, packed.cut or not complete)

    def _scored(self, rank: int) -> ScoredPassage:
        return self.scored[key_of(self._ranked[rank])]

    def _is_whole(self, rank: int) -> bool:
        chosen = self._chosen[rank]
        return chosen is None or len(chosen) == len(self._scored(rank).sentences)

    def _passages(self, rank: int | None = None, chosen: frozenset[int] | None = None) -> list[Passage]:
        """What has been taken, in rank order and merged; with another choice of one passage's sentences."""
        choices = dict(self._chosen)
        if rank is not None:
            choices[rank] = chosen
        return merge_spans([self._part(index, choices[index]) for index in sorted(choices)])

    def _part(self, rank: int, chosen: frozenset[int] | None) -> Passage:
        """A passage with these of its sentences: one object however often it is asked for, and so counted once."""
        if (rank, chosen) not in self._made:
            scored = self._scored(rank)
            self._made[rank, chosen] = scored.passage if chosen is None else scored.with_sentences(chosen)
        return self._made[rank, chosen]

    def _room(self) -> int:
        return self.budget - self._estimate(self._passages())

    def _fits(self, rank: int, chosen: frozenset[int] | None) -> bool:
        return self._estimate(self._passages(rank, chosen)) <= self.budget

    def _take_telling(self, rank: int) -> None:
        """The sentences above the threshold; of what does not fit, the best ones that do."""
        scored = self._scored(rank)
        telling = scored.above(self.threshold)
        if not telling:
            return
        together = scored.understood(telling)
        if self._fits(rank, together):
            self._chosen[rank] = together
            return
        self._fill(rank, [index for index in scored.best_first() if index in telling])

    def _fill(self, rank: int, order: Sequence[int]) -> None:
        """Add sentences of one passage while they fit."""
        chosen = self._chosen.get(rank, frozenset())
        assert chosen is not None
        for index in order[:_MOST_TRIES]:
            grown = chosen | self._scored(rank).understood([index])
            if grown != chosen and self._fits(rank, grown):
                chosen = grown
        if chosen:
            self._chosen[rank] = chosen

    def _restore(self, rank: int) -> None:
        """Bring back what is around the telling sentences, whole or in part."""
        if rank in self._chosen and self._is_whole(rank):
            return
        room = self._room()
        if room < (_LEAST_SENTENCE_TOKENS if rank in self._chosen else LEAST_ROOM_TOKENS):
            return
        if self._fits(rank, None):
            self._chosen[rank] = None
            return
        missing = [i for i in self._scored(rank).best_first() if i not in (self._chosen.get(rank) or ())]
        self._fill(rank, missing)
