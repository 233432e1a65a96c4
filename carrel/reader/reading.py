"""What one pass of the reader over a question and a passage says, and how long texts are covered by windows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from carrel.types import Span

Floats = NDArray[np.float32]
LONGEST_ANSWER_TOKENS = 32
_SURROGATES = re.compile("[\ud800-\udfff]")


def without_surrogates(text: str) -> str:
    """The text with a replacement character for each lone surrogate, which no tokenizer takes; offsets stay."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def windows(tokens: int, room: int, overlap: int) -> list[tuple[int, int]]:
    """(first, last) token of the fewest windows that cover a text, evenly spaced, at least ``overlap`` shared.

    A text that fits, an empty one too, has one window; all windows of a longer one are ``room`` long.
    """
    if tokens <= room:
        return [(0, tokens)]
    steps = -(-(tokens - room) // (room - overlap))
    firsts = (step * (tokens - room) // steps for step in range(steps + 1))
    return [(first, first + room) for first in firsts]


def seams(covering: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Which tokens are each window's own: those that stand farther from its edges than from any other's."""
    cuts = [(before[1] + after[0]) // 2 for before, after in pairwise(covering)]
    return list(pairwise([covering[0][0], *cuts, covering[-1][1]]))


def _softmax(logits: Floats) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - float(logits.max()))
    return np.asarray(powers / powers.sum(), np.float64)


@dataclass(frozen=True, slots=True)
class SpanScore:
    """A candidate answer: character offsets in the passage's text, and its logit above that of no answer."""

    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Reading:
    """One passage read with one question in mind; T tokens of its text.

    Attributes
    ----------
    relevance : logit that this is a passage to answer from.
    answerable : logit that the answer stands in it.
    offsets : (T, 2) character offsets of the tokens in the text.
    keep : (T,) probability that a token belongs to what answers the question.
    start, end : (T,) logits of the first and the last token of an answer, above those of no answer.
    """

    relevance: float
    answerable: float
    offsets: NDArray[np.int64]
    keep: Floats
    start: Floats
    end: Floats

    def shifted(self, by: int) -> Reading:
        """The same for a text with so many characters before it."""
        return replace(self, offsets=self.offsets + by) if by else self

    def keep_scores(self, spans: Sequence[Span]) -> list[float]:
        """Mean keep-probability of the tokens that begin in each span (offsets in the text); 0 without any."""
        starts = self.offsets[:, 0]
        firsts = np.searchsorted(starts, [span.start for span in spans]).tolist()
        lasts = np.searchsorted(starts, [span.end for span in spans]).tolist()
        return [
            float(self.keep[first:last].mean(dtype=np.float64)) if last > first else 0.0
            for first, last in zip(firsts, lasts, strict=True)
        ]

    def answer_shares(self, spans: Sequence[Span]) -> list[float]:
        """The share of the answer's probability in each span: the mean of its first and of its last token's.

        Both are taken over the tokens of the text, so that the shares of spans that tile it add up to 1.
        """
        if not len(self.start):
            return [0.0] * len(spans)
        starts = self.offsets[:, 0]
        firsts = np.searchsorted(starts, [span.start for span in spans]).tolist()
        lasts = np.searchsorted(starts, [span.end for span in spans]).tolist()
        both = 0.5 * (_softmax(self.start) + _softmax(self.end))  # (T,)
        return [float(both[first:last].sum()) for first, last in zip(firsts, lasts, strict=True)]

    def answers(
        self, count: int = 3, longest: int = LONGEST_ANSWER_TOKENS, within: Sequence[Span] | None = None
    ) -> list[SpanScore]:
        """The best answers that do not overlap, best first; the earlier and the shorter of equals.

        Parameters
        ----------
        longest : tokens of an answer.
        within : spans of the text (in order), in one of which an answer must stand whole.
        """
        width = min(longest, len(self.start))
        if width < 1:
            return []
        padded = np.concatenate([self.end, np.full(width - 1, -np.inf, np.float32)])
        table = self.start[:, None] + np.lib.stride_tricks.sliding_window_view(padded, width)  # (T, width)
        if within is not None:
            table[np.arange(width) >= self._room(within)[:, None]] = -np.inf
        out: list[SpanScore] = []
        while len(out) < count:
            first, further = divmod(int(table.argmax()), width)
            last, score = first + further, float(table[first, further])
            if not np.isfinite(score):
                break
            out.append(SpanScore(int(self.offsets[first, 0]), int(self.offsets[last, 1]), score))
            table[first : last + 1] = -np.inf
            for row in range(max(0, first - width + 1), first):  # those that would reach into it
                table[row, first - row :] = -np.inf
        return out

    def _room(self, within: Sequence[Span]) -> NDArray[np.int64]:
        """(T,) how many tokens, itself included, an answer that begins with a token may have."""
        room = np.zeros(len(self.offsets), np.int64)
        for span in within:
            first = int(np.searchsorted(self.offsets[:, 0], span.start))
            last = int(np.searchsorted(self.offsets[:, 1], span.end, side="right"))
            if last > first:
                room[first:last] = np.arange(last - first, 0, -1)
        return room
