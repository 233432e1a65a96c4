"""How well a model in training finds chunks of articles it never learnt from: what settings are chosen by."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from insent_data import Article, Window, may_answer, sequences_of
from insent_model import alone, situated
from torch import Tensor, nn

TARGET = 64  # tokens of a chunk
MOST = 250  # windows


def fixed_windows(articles: Sequence[Article], room: int) -> list[Window]:
    """The same windows every time, as late chunking cuts them, of articles that are drawn once."""
    chance = random.Random(0)
    found = [w for article in articles for w in sequences_of(article, TARGET, room, room, False, None, chance)]
    return chance.sample(found, MOST) if len(found) > MOST else found


def figures_of(model: nn.Module, before: nn.Module, windows: Sequence[Window]) -> dict[str, float]:
    """Chunks alone and late: how often the right one is first in its window, and its reciprocal rank among all.

    ``moved`` and ``moved_queries`` are the cosine distances of chunks alone and of questions from what they were.
    """
    texts = [window.ids[low:high] for window in windows for low, high in window.spans]
    asked = [ids for window in windows for ids in window.questions]
    with torch.no_grad():
        queries, queries_before = alone(model, asked, 32), alone(before, asked, 32)
        plain, late = alone(model, texts), situated(model, windows)
        plain_before = alone(before, texts)
    out = {}
    for name, chunks in (("plain", plain), ("late", late)):
        first, reciprocal = _ranks(queries, chunks, windows)
        out[f"{name}_first_in_window"], out[f"{name}_mrr"] = first, reciprocal
    out["moved"] = float(1 - (plain * plain_before).sum(-1).mean())
    out["moved_queries"] = float(1 - (queries * queries_before).sum(-1).mean())
    return out


def _ranks(queries: Tensor, chunks: Tensor, windows: Sequence[Window]) -> tuple[float, float]:
    scores = (queries @ chunks.T).numpy()  # (Q, C)
    others = may_answer(windows)
    first, reciprocal = [], []
    query = chunk = 0
    for window in windows:
        for place in window.positives:
            row = scores[query]
            row[list(others[query])] = -np.inf
            right = row[chunk + place]
            first.append(right >= row[chunk : chunk + len(window.spans)].max())
            reciprocal.append(1 / (1 + (row > right).sum()))
            query += 1
        chunk += len(window.spans)
    return float(np.mean(first)), float(np.mean(reciprocal))
