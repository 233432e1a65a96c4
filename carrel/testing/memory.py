"""Turns in memory, searched the plain way: what every index of turns must agree with."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from carrel.embeddings.base import TextEncoder, Vectors
from carrel.memory.base import Candidate, Note, StoredTurn
from carrel.retrieval.indexes.lexical import STOPWORDS

_WORD = re.compile(r"\w+")
_K1, _B = 1.2, 0.75


def plain_terms(text: str) -> list[str]:
    """The words of a text in small letters, without the commonest."""
    return [word for word in _WORD.findall(text.lower()) if word not in STOPWORDS]


class PlainTurns:
    """A `carrel.memory.base.TurnSource` of plain lists: a cosine with every turn, BM25 (Robertson and Zaragoza) with
    every turn, sorted; equal scores by id.

    Parameters
    ----------
    turns : with ids that grow.
    encoder : makes the vectors, of the turns' texts; or pass them as ``vectors``, (turns, dimension), where a row of
        NaN is a turn that is not embedded.
    terms : how a text is taken apart for BM25.
    """

    def __init__(
        self,
        turns: Iterable[StoredTurn],
        encoder: TextEncoder | None = None,
        *,
        vectors: Vectors | None = None,
        notes: Iterable[Note] = (),
        terms: Callable[[str], list[str]] = plain_terms,
    ) -> None:
        self._turns = sorted(turns, key=lambda turn: turn.id)
        self._ids = [turn.id for turn in self._turns]
        if vectors is None:
            assert encoder is not None, "an encoder or vectors are needed"
            vectors = encoder.encode_texts([turn.text for turn in self._turns])
        self._vectors = np.asarray(vectors, np.float32)
        self._notes = list(notes)
        self._terms = terms
        self._counts = [Counter(terms(turn.text)) for turn in self._turns]
        self._lengths = [sum(counts.values()) for counts in self._counts]

    def search(
        self, query: str, vector: Vectors, limit: int, *, since: float | None = None, before: float | None = None
    ) -> list[Candidate]:
        """The ``limit`` nearest and the ``limit`` best by BM25, joined, by id."""
        dense, lexical = self._cosines(vector), self._bm25(query)
        places = [
            place
            for place, turn in enumerate(self._turns)
            if (since is None or turn.said_at >= since) and (before is None or turn.said_at < before)
        ]
        embedded = [place for place in places if not math.isnan(dense[place])]
        matching = [place for place in places if lexical[place] > 0]
        nearest = sorted(embedded, key=lambda place: (-dense[place], place))[:limit]
        best = sorted(matching, key=lambda place: (-lexical[place], place))[:limit]
        return [
            Candidate(self._turns[place], float(dense[place]), lexical[place]) for place in sorted({*nearest, *best})
        ]

    def turns(self, ids: Sequence[int]) -> list[StoredTurn]:
        """Turns by id, in the order of the ids."""
        return [self._turns[place] for place in map(self._place, ids) if place is not None]

    def around(self, id: int, reach: int) -> list[StoredTurn]:  # noqa: A002
        """The turn and its neighbours in its session."""
        place = self._place(id)
        if place is None:
            return []
        session = [turn for turn in self._turns if turn.session == self._turns[place].session]
        at = session.index(self._turns[place])
        return session[max(0, at - reach) : at + reach + 1]

    def last(self, count: int, *, session: str | None = None) -> list[StoredTurn]:
        """The last turns, in order."""
        chosen = [turn for turn in self._turns if session is None or turn.session == session]
        return chosen[max(0, len(chosen) - count) :]

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """(ids, dimension); NaN for what is not embedded or not there."""
        found = np.full((len(ids), self._vectors.shape[1]), np.nan, np.float32)
        for row, place in enumerate(map(self._place, ids)):
            if place is not None:
                found[row] = self._vectors[place]
        return found

    def facts(self) -> list[Note]:
        """The facts, by time."""
        facts = (note for note in self._notes if note.kind == "fact")
        return sorted(facts, key=lambda note: (note.said_at, note.id))

    def summaries(self, ids: Sequence[int]) -> list[Note]:
        """The summaries of any of these turns, by time."""
        found = (note for note in self._notes if note.kind == "summary" and not set(ids).isdisjoint(note.turns))
        return sorted(found, key=lambda note: (note.said_at, note.id))

    def span(self) -> tuple[float, float] | None:
        """When the first and the last turn were said."""
        times = [turn.said_at for turn in self._turns]
        return (min(times), max(times)) if times else None

    def count(self) -> int:
        """How many turns there are."""
        return len(self._turns)

    def without(self, ids: Iterable[int]) -> PlainTurns:
        """The same turns but for some, as after a ``forget``; notes that rest on one of them are gone too."""
        gone = frozenset(ids)
        kept = [place for place, id in enumerate(self._ids) if id not in gone]
        return PlainTurns(
            [replace(self._turns[place]) for place in kept],
            vectors=self._vectors[kept],
            notes=[note for note in self._notes if not gone & frozenset(note.turns)],
            terms=self._terms,
        )

    def _place(self, id: int) -> int | None:  # noqa: A002
        place = bisect_left(self._ids, id)
        return place if place < len(self._ids) and self._ids[place] == id else None

    def _cosines(self, vector: Vectors) -> list[float]:
        """With the nearest of the query's vectors, (vectors, dimension)."""
        query = np.atleast_2d(np.asarray(vector, np.float32))
        return [float(np.max(query @ row)) for row in self._vectors]

    def _bm25(self, query: str) -> list[float]:
        terms = list(dict.fromkeys(self._terms(query)))
        count = len(self._turns)
        mean = sum(self._lengths) / count if count else 0.0
        scores = [0.0] * count
        for term in terms:
            holding = sum(1 for counts in self._counts if term in counts)
            idf = math.log(1 + (count - holding + 0.5) / (holding + 0.5))
            for place, counts in enumerate(self._counts):
                often = counts[term]
                if often:
                    norm = _K1 * (1 - _B + _B * self._lengths[place] / mean)
                    scores[place] += idf * often * (_K1 + 1) / (often + norm)
        return scores
