"""What each head is taught by, on one batch."""

from __future__ import annotations

import torch
from config import Config
from features import IGNORED, Batch
from torch import Tensor
from torch.nn import functional

NOTHING_TO_KEEP = 0.3
"""Weight of a token in a passage without an answer: there are more of those, and all their tokens say the same."""


def loss(window: Tensor, token: Tensor, batch: Batch, config: Config) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum of all heads' losses, and each by name. window (B, 2), token (N, 3)."""
    relevance, answerable = torch.from_numpy(batch.relevance), torch.from_numpy(batch.answerable)
    groups, weights = torch.from_numpy(batch.groups), torch.from_numpy(batch.weights)
    own = torch.where(weights == 1.0, answerable, -1.0)  # the paragraph as it is and as it was changed
    parts = {
        "relevance": binary(window[:, 0], relevance, torch.ones_like(weights)) * config.relevance_weight,
        "ranking": ranking(window[:, 0], relevance, groups) * config.ranking_weight,
        "answerable": binary(window[:, 1], answerable, weights) * config.answerable_weight,
        "contrast": ranking(window[:, 1], own, groups) * config.contrast_weight,
        "keep": keep(token[:, 0], batch) * config.keep_weight,
        "span": span(token[:, 1:], batch, config),
    }
    return sum(parts.values(), window.new_zeros(())), {name: float(value.detach()) for name, value in parts.items()}


def binary(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy, a weighted mean over the known labels (those not below 0)."""
    known = labels >= 0
    if not known.any():
        return logits.sum() * 0
    each = functional.binary_cross_entropy_with_logits(logits[known], labels[known], reduction="none")
    return mean(each, weights[known])


def mean(losses: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean."""
    return (losses * weights).sum() / weights.sum()


def ranking(logits: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
    """Softmax cross-entropy of the relevant passage among those of its question (localised contrastive
    estimation: Gao et al., "Rethink Training of BERT Rerankers", arXiv 2101.08751)."""
    known = labels >= 0
    logits, labels, groups = logits[known], labels[known], groups[known]
    count = int(groups.max()) + 1 if len(groups) else 0
    total = torch.full((count,), -torch.inf)
    total = total.scatter_reduce(0, groups, logits.detach(), "amax")  # for a stable sum
    sums = torch.zeros(count).index_add(0, groups, torch.exp(logits - total[groups]))
    likelihood = logits - total[groups] - torch.log(sums[groups])
    compared = torch.zeros(count).index_add(0, groups, torch.ones_like(logits))[groups] > 1
    chosen = (labels == 1) & compared
    return -likelihood[chosen].mean() if chosen.any() else logits.sum() * 0


def keep(logits: Tensor, batch: Batch) -> Tensor:
    """Binary cross-entropy over the tokens of the passages."""
    labels, lengths = torch.from_numpy(batch.keep), torch.from_numpy(batch.lengths)
    known = labels >= 0
    holds = torch.from_numpy(batch.starts) != 0
    window = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    weights = torch.where(holds, 1.0, NOTHING_TO_KEEP)[window][known]
    losses = functional.binary_cross_entropy_with_logits(logits[known], labels[known], reduction="none")
    return mean(losses, weights)


def span(logits: Tensor, batch: Batch, config: Config) -> Tensor:
    """Cross-entropy of the first and the last token of the answer; the CLS stands for no answer. logits (N, 2)."""
    lengths = torch.from_numpy(batch.lengths)
    mask = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]  # (B, T)
    allowed = torch.from_numpy(batch.keep) >= 0
    first = lengths.cumsum(0) - lengths
    allowed[first] = True
    padded = torch.full((*mask.shape, 2), -torch.inf)
    padded[mask] = logits.masked_fill(~allowed[:, None], -torch.inf)  # (B, T, 2)
    total, weights = logits.new_zeros(()), torch.from_numpy(batch.weights)
    for side, targets in enumerate((batch.starts, batch.ends)):
        target = torch.from_numpy(targets)
        each = functional.cross_entropy(padded[:, :, side], target, ignore_index=IGNORED, reduction="none")
        answered, empty = target > 0, target == 0
        if answered.any():
            total = total + 0.5 * config.span_weight * each[answered].mean()
        if empty.any():
            total = total + 0.5 * config.null_span_weight * mean(each[empty], weights[empty])
    return total
