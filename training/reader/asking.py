"""Fit the confidence of answers as they are asked for, the stage `ask` of reproduce.py: retrieval and reading together.

Held-out questions are asked of a library of all training paragraphs, in three kinds: questions with an answer there,
questions of SQuAD 2.0 without one, and questions whose own paragraph is left out. The surest answer of each is right
(F1 >= 0.5) or not. A logistic regression over the logit of its confidence as a reading, and that of its passage's
relevance, says how sure it is; half of the weight is on questions with an answer, a quarter on each of the others.
The threshold has the best balanced accuracy between right answers and questions without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from calibrate import RIGHT, cross_validated
from data import Question, fraction
from metrics import f1, reliability
from mine import mined_library
from reading import Tell

from carrel.reader.calibration import asked_features
from carrel.reader.methods import Reader, ReaderAnswerer, ReaderPruner, ReaderReranker
from carrel.reader.model import ReaderModel

QUESTIONS = {"answer": 260, "unanswerable": 150, "left_out": 160}
BUDGET = 1000


def fit_asked(
    out: Path, work: Path, questions: Sequence[Question], tell: Tell
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is added to calibration.json, and the figures behind it."""
    drawn = sorted(questions, key=lambda q: fraction(f"ask:{q.id}"))
    answerable = [q for q in drawn if q.answers]
    kinds = {
        "answer": answerable[: QUESTIONS["answer"]],
        "unanswerable": [q for q in drawn if not q.answers][: QUESTIONS["unanswerable"]],
        "left_out": answerable[QUESTIONS["answer"] :][: QUESTIONS["left_out"]],
    }
    rows = _rows(out, work, kinds, tell)
    kind = np.array([row[0] for row in rows])
    right = np.array([row[4] for row in rows]) >= RIGHT
    features = asked_features(np.array([row[2] for row in rows]), np.array([row[3] for row in rows]))
    weights = np.zeros(len(rows))
    for name, share in (("answer", 0.5), ("unanswerable", 0.25), ("left_out", 0.25)):
        weights[kind == name] = share / max(1, (kind == name).sum())
    model, sure = cross_validated([row[1] for row in rows], features, right, weights)
    empty = kind != "answer"
    order = np.unique(sure)
    balance = [((sure[right] >= t).mean() + (sure[empty] < t).mean()) / 2 for t in order]
    threshold = float(order[int(np.argmax(balance))])
    figures = {
        "questions": {name: int((kind == name).sum()) for name in kinds},
        "right": float(right[~empty].mean()),
        "right_and_given": float((right & (sure >= threshold))[~empty].mean()),
        "abstained": {name: float((sure[kind == name] < threshold).mean()) for name in kinds},
        "reliability": reliability(sure, right, weights=weights),
    }
    content = {"asked": {"bias": model.bias, "weights": dict(model.weights)}, "asked_threshold": threshold}
    return content, figures


Row = tuple[str, Question, float, float, float]  # kind, question, confidence as a reading, relevance, F1


def _rows(out: Path, work: Path, kinds: dict[str, list[Question]], tell: Tell) -> list[Row]:
    reader = Reader(ReaderModel(out))
    options: dict[str, Any] = {"reranker": ReaderReranker(reader), "pruner": ReaderPruner(reader), "budget": BUDGET}
    answerer = ReaderAnswerer(reader, spans_each=1)
    rows: list[Row] = []
    with mined_library(work) as library:
        for kind, questions in kinds.items():
            for question in questions:
                where = {"id": {"!=": question.document}} if kind == "left_out" else None
                passages = library.context(question.question, where=where, **options).passages
                found = sorted(answerer.read(question.question, passages), key=lambda one: -one.probability)[:1]
                for best in found:
                    answers = [question.context[a:b] for a, b in question.answers] if kind == "answer" else []
                    relevance = passages[best.number - 1].scores.relevance or 0.0
                    score = max((f1(best.text, answer) for answer in answers), default=0.0)
                    rows.append((kind, question, best.probability, relevance, score))
            tell(f"asked: {len(rows)} questions, {kind}")
    return rows
