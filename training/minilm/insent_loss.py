"""The losses of InSeNT: the right chunk among those of its own document, and among those of others.

Reference: Conti et al., "Context is Gold to find the Gold Passage", arXiv 2505.24782.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def contrast(
    queries: Tensor,
    chunks: Tensor,
    positives: Tensor,
    query_documents: Tensor,
    chunk_documents: Tensor,
    others: Sequence[frozenset[int]],
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of the right chunk among its document's chunks, and among it and all other documents'.

    Parameters
    ----------
    queries, chunks : (Q, D) and (C, D), unit length. positives : (Q,), the right chunk of each query.
    query_documents, chunk_documents : (Q,) and (C,), the document each is of.
    others : of each query the chunks that may be right, too: they are left out.
    """
    scores = queries @ chunks.T / temperature  # (Q, C)
    right = torch.zeros_like(scores, dtype=torch.bool).scatter(1, positives[:, None], True)
    left_out = torch.zeros_like(right)
    for row, places in enumerate(others):
        left_out[row, list(places)] = True
    same = query_documents[:, None] == chunk_documents[None, :]  # (Q, C)
    inside = scores.masked_fill(~right & (~same | left_out), -torch.inf)
    outside = scores.masked_fill(~right & (same | left_out), -torch.inf)
    return functional.cross_entropy(inside, positives), functional.cross_entropy(outside, positives)


def drift(vectors: Tensor, before: Tensor) -> Tensor:
    """Mean cosine distance of vectors (N, D) from what they were; all are of unit length."""
    return 1 - (vectors * before).sum(-1).mean()
