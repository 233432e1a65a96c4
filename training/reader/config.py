"""What a run of the training is made of: every number that changes the weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Config:
    """One reproducible run. ``FULL`` makes the shipped weights, ``SMALL`` a toy in a minute for the tests."""

    seed: int = 0
    examples: int | None = None  # of each training file; None takes all
    held_out_share: float = 0.06  # of the titles of nq_qed
    held_out_articles: int = 2  # of squad2, those with the fewest questions
    negatives_mined: int = 24  # kept for each question
    fillers_mined: int = 24  # sentences like a sentence pair's question

    epochs: float = 3.0
    negatives: int = 2  # of each question in one epoch
    window: int = 320  # tokens of question, title and passage
    question_tokens: int = 64
    batch_tokens: int = 6000
    learning_rate: float = 1e-4
    least_learning_rate: float = 2e-6
    weight_decay: float = 0.01
    warm_up: float = 0.05
    dropout: float = 0.1
    average: float = 0.999  # decay of the moving average of the weights; 0 for none
    save_every: int = 100  # steps

    removed_sentence: float = 0.10  # share of answerable questions asked of their passage without the answer
    swapped_question: float = 0.12  # share asked with another name or number in the question
    whole_context: float = 0.35  # share shown the paragraph as the data has it, else the chunk that holds the answer
    titled: float = 0.6  # share of questions whose passages show their titles

    relevance_weight: float = 1.0
    ranking_weight: float = 0.5
    keep_weight: float = 1.0
    span_weight: float = 1.0
    null_span_weight: float = 0.3
    answerable_weight: float = 0.5

    def with_changes(self, **changes: Any) -> Config:
        """The same with some values changed."""
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


FULL = Config()
SMALL = Config(
    examples=120, held_out_articles=1, held_out_share=0.2, negatives_mined=4, fillers_mined=6, epochs=1, window=192,
    batch_tokens=1500, save_every=10, average=0.9,
)  # fmt: skip
