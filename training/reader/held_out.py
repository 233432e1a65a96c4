"""How good a reader in training is on documents it never saw: what the choice of epochs and settings rests on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from config import Config
from data import Question
from features import Batch, Features, Featuriser, batches
from metrics import auc
from model import Reader
from numpy.typing import NDArray

from examples import Window, labelled

LISTED = 10  # candidates of a question that are ranked
LONGEST_ANSWER = 24  # tokens


def evaluator(
    questions: Sequence[Question],
    candidates: Sequence[dict[str, Any]],
    pool: Sequence[dict[str, Any]],
    featuriser: Featuriser,
    config: Config,
) -> Callable[[Reader], dict[str, float]]:
    """A function from a reader to its figures on the held-out questions."""
    held_out = [q for q in questions if q.held_out]
    texts = {row["document"]: row for row in pool}
    found = {row["id"]: row["candidates"] for row in candidates}
    whole = [[_whole(q)] for q in held_out]
    listed = [(q, [c for c in found[q.id] if c["label"] >= 0][:LISTED]) for q in held_out if q.answers]
    listed = [(q, rows) for q, rows in listed if any(row["label"] for row in rows)]
    lists = [
        [_listed(q, texts[c["document"]], c) for c in rows]
        for q, rows in listed
    ]  # fmt: skip
    whole_features = featuriser.groups(whole)
    list_features = featuriser.groups(lists)
    labels = [np.array([c["label"] for c in rows]) for _, rows in listed]
    fused = [np.array([c["fused"] for c in rows]) for _, rows in listed]

    def evaluate(reader: Reader) -> dict[str, float]:
        window, tokens = predict(reader, whole_features, config.batch_tokens)
        figures = _answers(held_out, whole_features, window, tokens)
        window, _ = predict(reader, list_features, config.batch_tokens)
        scores = np.split(window[:, 0], np.cumsum([len(rows) for rows in labels])[:-1])
        figures |= {f"rank_{name}": value for name, value in _ranks(labels, scores).items()}
        figures |= {f"retriever_{name}": value for name, value in _ranks(labels, fused).items()}
        return figures

    return evaluate


def _whole(q: Question) -> Window:
    return labelled(q.question, q.title, q.context, q.answers[:1], relevance=None, keep=q.answers)


def _listed(q: Question, row: dict[str, Any], candidate: dict[str, Any]) -> Window:
    text = row["text"][candidate["start"] : candidate["end"]]
    return labelled(q.question, row["title"], text, (), relevance=float(candidate["label"]))


def predict(
    reader: Reader, groups: Sequence[list[Features]], batch_tokens: int
) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    """Window logits (W, 2) and token logits [(T, 3)] of all windows, in order."""
    windows, tokens = [], []
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for batch in batches(groups, batch_tokens):
            window, token = _forward(reader, batch)
            windows.append(window)
            tokens += np.split(token, np.cumsum(batch.lengths)[:-1])
    return np.concatenate(windows), tokens


def _forward(reader: Reader, batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    arrays = (torch.from_numpy(array) for array in (batch.ids, batch.types, batch.lengths))
    window, token = reader(*arrays)
    return window.numpy(), token.numpy()


def _answers(
    questions: Sequence[Question], features: Sequence[list[Features]], window: NDArray[np.float32], tokens: list[Any]
) -> dict[str, float]:
    f1, kept, share, rank, nothing, labels = [], [], [], [], [], []
    for question, [feature], cls, token in zip(questions, features, window, tokens, strict=True):
        allowed = feature.keep >= 0
        best, null = best_span(token, allowed)
        nothing.append((float(cls[1]), float(token[0, 1] + token[0, 2]) - null))
        labels.append(bool(question.answers))
        if not question.answers or feature.start <= 0:
            continue
        predicted = {*range(best[0], best[1] + 1)}
        wanted = {*range(feature.start, feature.end + 1)}
        common = len(predicted & wanted)
        f1.append(2 * common / (len(predicted) + len(wanted)))
        keep = _sigmoid(token[allowed, 0])
        wanted_tokens = feature.keep[allowed] == 1
        # the share of the passage that must stay so that all of the answer's sentence does, token by token
        threshold = float(np.mean(keep[wanted_tokens]))
        rank.append(float(np.mean(keep >= threshold)))
        kept.append(float(np.mean(keep[wanted_tokens]) > 0.2))
        share.append(float(np.mean(keep > 0.2)))
    answerable = np.array(labels)
    figures = {
        "token_f1": float(np.mean(f1)),
        "kept_at_0.2": float(np.mean(kept)),
        "left_at_0.2": float(np.mean(share)),
    }
    if not answerable.all():
        two = [index for index, q in enumerate(questions) if q.source == "squad2"]
        figures["answerable_auc"] = auc(answerable[two], np.array([nothing[i][0] for i in two]))
        figures["null_auc"] = auc(answerable[two], -np.array([nothing[i][1] for i in two]))
    return figures


def best_span(token: NDArray[np.float32], allowed: NDArray[np.bool_]) -> tuple[tuple[int, int], float]:
    """The best (first, last) token of an answer among those allowed, and its score. token (T, 3)."""
    places = np.flatnonzero(allowed)
    start, end = token[places, 1], token[places, 2]
    scores = np.triu(np.tril(start[:, None] + end[None, :] + 1e6, LONGEST_ANSWER - 1))
    i, j = divmod(int(scores.argmax()), len(places))
    return (int(places[i]), int(places[j])), float(start[i] + end[j])


def _ranks(labels: Sequence[NDArray[np.int64]], scores: Sequence[NDArray[np.float64]]) -> dict[str, float]:
    ranks = [
        1 + int((score[label == 0] >= score[label == 1].max()).sum())
        for label, score in zip(labels, scores, strict=True)
    ]
    return {"first": float(np.mean([r == 1 for r in ranks])), "mrr": float(np.mean([1 / r for r in ranks]))}


def _sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)
