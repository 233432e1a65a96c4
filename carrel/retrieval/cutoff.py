"""How many passages to keep, decided for each question from its own scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import ClassVar

from carrel.errors import InputError, ScoreKindError
from carrel.types import ScoreKind


@dataclass(frozen=True, slots=True)
class Cut:
    """How many were kept and why."""

    count: int
    reason: str
    details: dict[str, object] = field(default_factory=dict)


class Cutoff(ABC):
    """Decides a count from scores sorted from best to worst; the base applies the caps and keeps the record.

    ``reads`` lists the kinds of score whose size means something to the method; ranks fused into scores
    do not, and are refused.
    """

    name: ClassVar[str]
    citation: ClassVar[str] = ""
    reads: ClassVar[frozenset[ScoreKind]] = frozenset({"dense", "lexical", "fused", "relevance"})
    max_passages: int | None
    max_tokens: int | None = None

    @abstractmethod
    def count(self, scores: Sequence[float]) -> tuple[int, str, dict[str, object]]:
        """How many of the sorted scores to keep, the reason, and the figures behind it."""

    def cut(self, scores: Sequence[float], kind: ScoreKind) -> Cut:
        """Apply the method and its cap.

        Raises
        ------
        ScoreKindError : the scores are of a kind whose gaps mean nothing (fused ranks).
        InputError : the scores are not sorted, or not numbers.
        """
        if kind not in self.reads:
            raise ScoreKindError(
                f"{self.name} cannot read {kind!r} scores: they tell the order of passages, not how relevant they are."
                f" Use a retriever whose scores do: {', '.join(sorted(self.reads))}."
            )
        if any(score != score for score in scores):  # NaN
            raise InputError(f"{self.name} was given a score that is not a number")
        if any(first < second for first, second in pairwise(scores)):
            raise InputError(f"{self.name} needs scores sorted from best to worst")
        if not scores:
            return Cut(0, "no candidates")
        count, reason, details = self.count(scores)
        count = max(1, min(count, len(scores)))
        if self.max_passages is not None and count > self.max_passages:
            return Cut(self.max_passages, f"{reason}; capped at {self.max_passages} passages", details)
        return Cut(count, reason, details)

    def within_tokens(self, cut: Cut, tokens: Sequence[int]) -> Cut:
        """Apply the cap in tokens: ``tokens`` are those of the passages that were kept, best first. The best stays."""
        if self.max_tokens is None:
            return cut
        for count, total in enumerate(accumulate(tokens)):
            if count and total > self.max_tokens:
                return Cut(count, f"{cut.reason}; capped at {self.max_tokens:,} tokens", cut.details)
        return cut

    def _check_caps(self) -> None:
        for name, cap in (("max_passages", self.max_passages), ("max_tokens", self.max_tokens)):
            if cap is not None and cap < 1:
                raise InputError(f"{type(self).__name__}: {name} must be 1 or more, or None, not {cap}")


@dataclass(frozen=True)
class AdaptiveK(Cutoff):
    """Cut at the largest drop between neighbouring scores, plus a buffer.

    Taguchi, Maekawa and Bhutani, "Efficient Context Selection for Long-Context QA: No Tuning, No
    Iteration, Just Adaptive-k", arXiv 2506.08479.

    Parameters
    ----------
    buffer : passages kept beyond the drop (5 in the paper's question answering).
    skip_tail : share of the lowest scores where no drop is looked for (0.1 in the paper).
    skip_head : share of the highest scores where none is (0.05 in the paper for aggregation over many
        documents; 0 for factoid questions).
    max_passages : cap; None for no cap but the budget.
    max_tokens : cap on the tokens of the passages' texts, as the encoder counts them; None for none but the budget.
    """

    name: ClassVar[str] = "adaptive"
    citation: ClassVar[str] = "Taguchi et al., Adaptive-k, arXiv 2506.08479"
    buffer: int = 5
    skip_tail: float = 0.1
    skip_head: float = 0.0
    max_passages: int | None = 50
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        self._check_caps()
        if (
            self.buffer < 0
            or not 0 <= self.skip_tail < 1
            or not 0 <= self.skip_head < 1
            or self.skip_head + self.skip_tail >= 1
        ):
            raise InputError("AdaptiveK: buffer must be 0 or more, and skip_head + skip_tail below 1 (each 0 or more)")

    def count(self, scores: Sequence[float]) -> tuple[int, str, dict[str, object]]:
        if len(scores) < 2:
            return len(scores), "a single candidate", {}
        gaps = [first - second for first, second in pairwise(scores)]
        head = min(int(len(scores) * self.skip_head), len(gaps) - 1)
        end = max(head + 1, len(gaps) - int(len(scores) * self.skip_tail))
        drop = max(range(head, end), key=lambda index: (gaps[index], -index))  # the first of equal drops
        count = drop + 1 + self.buffer
        details: dict[str, object] = {
            "gap": gaps[drop],
            "rank": drop + 1,
            "buffer": self.buffer,
            "candidates": len(scores),
        }
        return count, f"largest drop {gaps[drop]:.3f} after rank {drop + 1}, plus {self.buffer}", details


@dataclass(frozen=True)
class FixedK(Cutoff):
    """Keep the best ``k``, whatever the question: the baseline."""

    name: ClassVar[str] = "fixed"
    reads: ClassVar[frozenset[ScoreKind]] = frozenset({"dense", "lexical", "fused", "rank_fused", "relevance"})
    k: int = 10
    max_passages: int | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        self._check_caps()
        if self.k < 1:
            raise InputError(f"FixedK: k must be 1 or more, not {self.k}")

    def count(self, scores: Sequence[float]) -> tuple[int, str, dict[str, object]]:
        return min(self.k, len(scores)), f"fixed at {self.k}", {"k": self.k}


@dataclass(frozen=True)
class Threshold(Cutoff):
    """Keep what scores at least ``minimum``; the best passage always stays."""

    name: ClassVar[str] = "threshold"
    minimum: float = 0.3
    max_passages: int | None = 50
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        self._check_caps()

    def count(self, scores: Sequence[float]) -> tuple[int, str, dict[str, object]]:
        kept = sum(score >= self.minimum for score in scores)
        return kept, f"{kept} at or above {self.minimum:g}", {"minimum": self.minimum}
