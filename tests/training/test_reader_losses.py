"""Each head's loss against its definition, written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from config import FULL  # noqa: E402
from features import IGNORED, Batch  # noqa: E402
from losses import NOTHING_TO_KEEP, binary, keep, loss, ranking, span  # noqa: E402

pytestmark = pytest.mark.extras
RANDOM = np.random.default_rng(3)
LENGTHS = np.array([6, 5, 7, 4], np.int64)


def batch() -> Batch:
    """Four windows of two questions: an answer, none, a span not known, none; the first two tokens are the question."""
    keep_labels = np.full(int(LENGTHS.sum()), -1, np.float32)
    firsts = np.cumsum(LENGTHS) - LENGTHS
    for first, length in zip(firsts, LENGTHS, strict=True):
        keep_labels[first + 2 : first + length - 1] = 0
    keep_labels[firsts[0] + 3 : firsts[0] + 5] = 1
    keep_labels[firsts[2] + 2 : firsts[2] + 4] = 1
    return Batch(
        ids=np.zeros(22, np.int64), types=np.zeros(22, np.int64), lengths=LENGTHS, keep=keep_labels,
        starts=np.array([3, 0, IGNORED, 0]), ends=np.array([4, 0, IGNORED, 0]),
        relevance=np.array([1, 0, 1, -1], np.float32), answerable=np.array([1, 0, 1, 0], np.float32),
        weights=np.array([1, 1, 1, 0.25], np.float32), groups=np.array([0, 0, 1, 1]),
    )  # fmt: skip


WINDOW, TOKEN = RANDOM.normal(size=(4, 2)).astype(np.float32), RANDOM.normal(size=(22, 3)).astype(np.float32)


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    return -np.log1p(np.exp(-x))


def crossed(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return -(labels * log_sigmoid(logits) + (1 - labels) * log_sigmoid(-logits))


def test_binary_leaves_the_unknown_out() -> None:
    logits, labels = WINDOW[:, 0], batch().relevance
    weights = np.array([1, 0.5, 2, 3], np.float32)
    wanted = (crossed(logits[:3], labels[:3]) * weights[:3]).sum() / weights[:3].sum()
    made = binary(torch.tensor(logits), torch.tensor(labels), torch.tensor(weights))
    assert float(made) == pytest.approx(wanted, rel=1e-5)
    assert float(binary(torch.tensor(logits), -torch.ones(4), torch.ones(4))) == 0


def test_ranking_is_a_softmax_over_the_passages_of_a_question() -> None:
    logits = WINDOW[:, 0]
    wanted = np.log(np.exp(logits[:2]).sum()) - logits[0]  # the second question has but one known passage
    made = ranking(torch.tensor(logits), torch.tensor(batch().relevance), torch.tensor(batch().groups))
    assert float(made) == pytest.approx(wanted, rel=1e-5)
    alone = ranking(torch.tensor([2.0]), torch.tensor([1.0]), torch.tensor([0]))
    none = ranking(torch.tensor([2.0, 1.0]), torch.tensor([0.0, 0.0]), torch.tensor([0, 0]))
    unknown = ranking(torch.tensor([2.0]), torch.tensor([-1.0]), torch.tensor([0]))
    assert float(alone) == float(none) == float(unknown) == 0


def test_ranking_bears_large_logits() -> None:
    made = ranking(torch.tensor([900.0, -900.0]), torch.tensor([0.0, 1.0]), torch.tensor([0, 0]))
    assert float(made) == pytest.approx(1800)


def test_a_contrast_is_between_the_passage_and_what_it_was_changed_to() -> None:
    """Of the second question's windows one was retrieved, so that there is nothing to compare."""
    logits = WINDOW[:, 1]
    wanted = 0.5 * (np.log(np.exp(logits[:2]).sum()) - logits[0])
    parts = loss(torch.tensor(WINDOW), torch.tensor(TOKEN), batch(), FULL.with_changes(contrast_weight=0.5))[1]
    assert parts["contrast"] == pytest.approx(wanted, rel=1e-5)


def test_keep_weighs_passages_without_anything_to_keep_less() -> None:
    b = batch()
    known = b.keep >= 0
    weights = np.repeat(np.where(b.starts != 0, 1.0, NOTHING_TO_KEEP), LENGTHS)[known]
    wanted = (crossed(TOKEN[known, 0], b.keep[known]) * weights).sum() / weights.sum()
    assert float(keep(torch.tensor(TOKEN[:, 0]), b)) == pytest.approx(wanted, rel=1e-5)


def test_span_is_a_softmax_over_the_passage_and_the_first_token() -> None:
    b, total = batch(), 0.0
    firsts = np.cumsum(LENGTHS) - LENGTHS
    for side, targets in ((1, b.starts), (2, b.ends)):
        each = {}
        for index, (first, length) in enumerate(zip(firsts, LENGTHS, strict=True)):
            allowed = [0, *(place for place in range(length) if b.keep[first + place] >= 0)]
            logits = TOKEN[[first + place for place in allowed], side].astype(np.float64)
            if targets[index] != IGNORED:
                each[index] = np.log(np.exp(logits).sum()) - logits[allowed.index(targets[index])]
        empty = (each[1] + 0.25 * each[3]) / 1.25  # a retrieved passage weighs less
        total += 0.5 * FULL.span_weight * each[0] + 0.5 * FULL.null_span_weight * empty
    assert float(span(torch.tensor(TOKEN[:, 1:]), b, FULL)) == pytest.approx(total, rel=1e-5)


def test_the_whole_is_the_weighted_sum_and_has_gradients() -> None:
    window, token = torch.tensor(WINDOW, requires_grad=True), torch.tensor(TOKEN, requires_grad=True)
    config = FULL.with_changes(contrast_weight=0.5)
    total, parts = loss(window, token, batch(), config)
    assert float(total.detach()) == pytest.approx(sum(parts.values()), rel=1e-5)
    assert set(parts) == {"relevance", "ranking", "answerable", "contrast", "keep", "span"} and min(parts.values()) > 0
    halved = loss(window, token, batch(), config.with_changes(ranking_weight=FULL.ranking_weight / 2))[1]
    assert halved["ranking"] == pytest.approx(parts["ranking"] / 2)
    total.backward()
    assert torch.isfinite(window.grad).all() and torch.isfinite(token.grad).all()
    assert window.grad[3, 0] == 0 and window.grad[3, 1] != 0  # relevance unknown, answerable known
