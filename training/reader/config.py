"""What a run of the training is made of: every number that changes the weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Config:
    """One reproducible course of training. ``COURSES`` has those of the shipped weights, and of a toy for the tests."""

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

    # for the second course
    contrast: float = 0.0  # share of answerable questions shown beside a question or passage that differs a little
    contrast_weight: float = 0.0  # how much is learnt from telling the two apart
    any_case: bool = False  # whether names are exchanged in questions that are all in lower case, too
    negated: float = 0.4  # share of questions that may be changed by a "not"
    near: float = 0.5  # share of other names and numbers that are taken from the same paragraph
    copies: int = 1  # of the questions of SQuAD 2.0 in an epoch: the one set that has unanswerable ones
    pairs: float = 1.0  # share of the sentence pairs in an epoch
    blend: float = 1.0  # share of this course in the weights that come of it; the rest is what it began with
    retrieved_weight: float = 1.0  # of a retrieved passage in learning when to abstain; the own paragraph has 1

    def with_changes(self, **changes: Any) -> Config:
        """The same with some values changed."""
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


FULL = Config()
FINISH = FULL.with_changes(
    epochs=5.0, learning_rate=7e-5, negatives=1, removed_sentence=0.08, swapped_question=0.0, contrast=0.4,
    contrast_weight=0.5, any_case=True, negated=0.1, near=0.8, copies=2, pairs=0.3, retrieved_weight=0.25,
    answerable_weight=1.0, null_span_weight=0.6, blend=0.6,
)  # fmt: skip
"""The second course. After the first one ranking has all it gets from these data, answers and abstentions have not."""
SMALL = Config(
    examples=120, held_out_articles=1, held_out_share=0.2, negatives_mined=4, fillers_mined=6, epochs=1, window=192,
    batch_tokens=1500, save_every=10, average=0.9,
)  # fmt: skip
SMALL_FINISH = SMALL.with_changes(negatives=1, contrast=0.4, contrast_weight=0.5, copies=2, pairs=0.3)
COURSES = {"full": (FULL, FINISH), "small": (SMALL, SMALL_FINISH)}
"""What is trained one after the other; each goes on from the averaged weights of the one before."""
