"""The sentences of the passages, indexed by their words, and how well a word of a claim fits where it stands."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from carrel.generation.claims import Claim, Token, claim_of, plain, runs_of
from carrel.retrieval.merging import trimmed
from carrel.retrieval.sentences import split_sentences
from carrel.types import Passage, Span

Floats = NDArray[np.float64]
SENTENCE_GAP = 8  # words that a full stop counts as
NAME_REACH = 4  # words between those of one name
FAR = 1e6


@dataclass(frozen=True, slots=True)
class Source:
    """One sentence of a passage: the passage's number (from 1), document offsets, its text taken apart."""

    number: int
    span: Span
    text: str
    claim: Claim


class PassageIndex:
    """One passage: its sentences, and where in it each word stands, a full stop counting as a few words.

    ``place`` holds the keys of its title and headings.
    """

    def __init__(
        self, number: int, passage: Passage, sentences: Sequence[tuple[Span, str]], known_names: frozenset[str]
    ) -> None:
        self.number, self.passage = number, passage
        self.place = frozenset(t.key for t in claim_of(passage.prefix or passage.title).tokens if t.kind != "stop")
        self.sources = [Source(number, span, text, claim_of(text, known_names)) for span, text in sentences]

    def keeps(self, start: int, end: int) -> bool:
        """Whether a pruner left this stretch of the passage's text, offsets in it."""
        kept, shift = self.passage.kept, self.passage.start
        return kept is None or any(span.start <= shift + start and shift + end <= span.end for span in kept)

    @cached_property
    def words(self) -> list[tuple[int, int, Token]]:
        """(sentence, position, token) of every word."""
        out, position = [], 0
        for index, source in enumerate(self.sources):
            for token in source.claim.tokens:
                out.append((index, position, token))
                position += 1
            position += SENTENCE_GAP
        return out

    @cached_property
    def by_key(self) -> dict[str, list[tuple[int, int, Token]]]:
        return _grouped(self.words, lambda token: token.key)

    @cached_property
    def by_kind(self) -> dict[str, list[tuple[int, int, Token]]]:
        return _grouped(self.words, lambda token: token.kind)

    @cached_property
    def positions(self) -> dict[str, Floats]:
        """Where each key stands, in order."""
        return {key: np.array([at for _, at, _ in words], np.float64) for key, words in self.by_key.items()}

    @cached_property
    def plain(self) -> tuple[str, ...]:
        """The kept texts in letters and digits alone."""
        return tuple(map(plain, self.passage.pieces))

    def distances(self, key: str, at: Floats) -> Floats:
        """(places,): words between each place and the nearest occurrence of a key that is not the place itself."""
        known = self.positions.get(key)
        if known is None:
            return np.full(len(at), FAR)
        after = np.searchsorted(known, at, side="right")
        right = np.append(known, FAR)[after] - at
        before = np.searchsorted(known, at, side="left") - 1
        left = at - np.concatenate([[-FAR], known])[before + 1]
        return np.asarray(np.minimum(left, right), np.float64)


class Evidence:
    """All passages of a context, indexed: which sentences have a word, and how telling the word is among them."""

    def __init__(self, passages: Sequence[tuple[int, Passage]]) -> None:
        sentences = {number: _sentences(passage) for number, passage in passages}
        self.known_names = _names([text for found in sentences.values() for _, text in found])
        self.passages = {n: PassageIndex(n, passage, sentences[n], self.known_names) for n, passage in passages}
        self.sources = [source for passage in self.passages.values() for source in passage.sources]
        self.at: dict[str, list[int]] = defaultdict(list)
        for index, source in enumerate(self.sources):
            for key in dict.fromkeys(token.key for token in source.claim.tokens):
                self.at[key].append(index)
        self.titled: dict[str, list[int]] = defaultdict(list)
        for passage in self.passages.values():
            for key in passage.place:
                self.titled[key].append(passage.number)
        self._ranks = _ranks(self.sources, dict(passages))

    def only(self, numbers: Collection[int]) -> Evidence:
        """Some of the passages, with their numbers."""
        return Evidence([(number, self.passages[number].passage) for number in sorted(numbers)])

    @cached_property
    def acronyms(self) -> frozenset[str]:
        """The first letters of every name of two words or more: un for United Nations."""
        runs = [run for source in self.sources for run in runs_of(source.claim.tokens)]
        return frozenset("".join(token.text[0].lower() for token in run) for run in runs if len(run) > 1)

    @cached_property
    def _by_start(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for key in [*self.at, *self.titled]:
            found[key[:4]].add(key)
        return found

    def has_name(self, token: Token) -> bool:
        """Whether a name stands in another form: Norman for Normandy, UN for United Nations."""
        if token.text.isupper() and token.key in self.acronyms:
            return True
        return any(_same_name(token.key, key) for key in self._by_start.get(token.key[:4], ()))

    def joins(self, one: str, other: str) -> bool:
        """Whether two words stand within a few words of each other, or both in a title."""
        return any(
            (one in passage.place and other in passage.place)
            or (one in passage.positions and (passage.distances(other, passage.positions[one]) <= NAME_REACH).any())
            for passage in self.passages.values()
        )

    @cached_property
    def in_order(self) -> list[PassageIndex]:
        """The passages in an order that does not depend on that of the context."""
        return sorted(self.passages.values(), key=lambda p: (p.passage.document_id, p.passage.start, p.passage.end))

    def same_as(self, text: str) -> Source | None:
        """The sentence with these letters and digits."""
        return self._by_plain.get(text)

    @cached_property
    def _by_plain(self) -> dict[str, Source]:
        return {source.claim.plain: source for passage in self.in_order[::-1] for source in passage.sources}

    def at_place(self, index: int) -> tuple[int, int]:
        """The passage of a sentence, and which of its sentences it is."""
        source = self.sources[index]
        return source.number, index - self._firsts[source.number]

    @cached_property
    def _firsts(self) -> dict[int, int]:
        return {source.number: index for index, source in reversed(list(enumerate(self.sources)))}

    def index_of(self, source: Source) -> int:
        return self._index[source.number, source.span.start]

    @cached_property
    def _index(self) -> dict[tuple[int, int], int]:
        return {(source.number, source.span.start): index for index, source in enumerate(self.sources)}

    def weight(self, key: str) -> float:
        """How telling a word is: the fewer sentences have it, the more."""
        return math.log(1 + (1 + len(self.sources)) / (0.5 + len(self.at.get(key, ()))))

    def has(self, key: str) -> bool:
        """Whether the word stands in any passage, its title or headings."""
        return key in self.at or key in self.titled

    def rank(self, wanted: Mapping[str, float], count: int, only: Collection[int] | None = None) -> list[int]:
        """The sentences with most of the weight of the keys that are wanted, best first; a title's word counts half.

        The order of equals is that of their documents, whatever the order of the passages.
        """
        gains: Counter[int] = Counter()
        for key, weight in wanted.items():
            for index in self.at.get(key, ()):
                gains[index] += weight  # type: ignore[assignment]
        if not gains:
            return []
        if any(key in self.titled for key in wanted):
            for index in gains:
                passage = self.passages[self.sources[index].number]
                keys = self._keys(index)
                gains[index] += 0.5 * sum(w for k, w in wanted.items() if k in passage.place and k not in keys)  # type: ignore[assignment]
        found = [(-gain, self._ranks[index], index) for index, gain in gains.items() if only is None or index in only]
        return [index for *_, index in sorted(found)[:count]]

    def keys(self, index: int) -> frozenset[str]:
        """What a sentence has, with its title and headings."""
        return self._keys(index) | self.passages[self.sources[index].number].place

    def _keys(self, index: int) -> frozenset[str]:
        return frozenset(token.key for token in self.sources[index].claim.tokens)


def _grouped(
    words: Sequence[tuple[int, int, Token]], key: Callable[[Token], str]
) -> dict[str, list[tuple[int, int, Token]]]:
    found: dict[str, list[tuple[int, int, Token]]] = defaultdict(list)
    for word in words:
        found[key(word[2])].append(word)
    return found


def _same_name(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return len(short) >= 4 and long.startswith(short)


def _sentences(passage: Passage) -> list[tuple[Span, str]]:
    """The sentences of the kept parts, without the white space around them."""
    parts = [Span(passage.start, passage.end)] if passage.kept is None else passage.kept
    out = []
    for part in parts:
        for span in split_sentences(passage.text, part.start - passage.start, part.end - passage.start):
            exact, text = trimmed(passage.start + span.start, passage.text[span.start : span.end])
            if text:
                out.append((exact, text))
    return out


def _names(sentences: Sequence[str]) -> frozenset[str]:
    """Keys of words that have a capital within sentences, and seldom a small letter."""
    capital: Counter[str] = Counter()
    small: Counter[str] = Counter()
    for text in sentences:
        for token in claim_of(text).tokens:
            if token.kind == "name":
                capital[token.key] += 1
            elif token.kind == "word" and token.text[0].islower():
                small[token.key] += 1
    return frozenset(key for key, count in capital.items() if count > small[key])


def _ranks(sources: Sequence[Source], passages: Mapping[int, Passage]) -> list[int]:
    """The place of each sentence in an order that does not depend on that of the passages."""
    order = sorted(
        range(len(sources)),
        key=lambda i: (passages[sources[i].number].document_id, sources[i].span.start, sources[i].span.end, i),
    )
    ranks = [0] * len(order)
    for rank, index in enumerate(order):
        ranks[index] = rank
    return ranks
