"""Fit the constants by which the reader's verifier weighs another answer, on documents that were not trained on."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from verification_cases import cases_of, load_items

from carrel.generation.evidence import Evidence
from carrel.generation.rules import conclude, examine
from carrel.generation.verification import Judgement, statements_of
from carrel.reader.verifier import BY_NAME, BY_NUMBER, BY_READER, LIMIT, ReaderVerifier, is_answer, is_found

FALSE_ALARMS = 0.05  # of true short answers that the rules pass
SETS = ("squad2", "nq_qed")  # those whose documents have titles, so that some are held out
Floats = NDArray[np.float64]


def tune(data: Path, limit: int, verifier: ReaderVerifier) -> str:
    """The constants, and what they flag, as text."""
    hidden = held_out(data)
    rows: list[tuple[float, float, float, float]] = []
    kinds: list[str] = []
    items = [i for name in SETS for i in load_items(data / "train" / f"{name}.jsonl.gz") if i.id in hidden]
    for case in cases_of(items, limit):
        statements = statements_of(case.answer, len(case.passages))
        if len(statements) != 1 or "negated" in case.kind:
            continue
        found = examine(statements[0], Evidence(list(enumerate(case.passages, start=1))), case.question)
        if isinstance(found, Judgement) or not is_answer(found, case.question) or conclude(found).problems:
            continue
        contest = verifier.contest(found, case.question)
        if is_found(contest):
            names = [fit.worse_by for fit in found.fits if fit.token.kind == "name"]
            numbers = [fit.worse_by for fit in found.fits if fit.token.kind != "name"]
            rows.append((contest.margin, max(names, default=-1.0), max(numbers, default=-1.0), float(case.is_true)))
            kinds.append(case.kind)
    table = np.array(rows)  # (cases, 4)
    features, is_false = table[:, :3], table[:, 3] == 0
    weights = fitted(np.hstack([features, np.ones((len(features), 1))]), is_false)[:3]
    odds = features @ weights
    limit_found = float(np.quantile(odds[~is_false], 1 - FALSE_ALARMS))
    lines = [f"{len(items)} held-out questions, {len(rows)} short answers that the rules pass"]
    lines.append("BY_READER, BY_NAME, BY_NUMBER, LIMIT = {:.2f}, {:.2f}, {:.2f}, {:.2f}".format(*weights, limit_found))
    current = features @ np.array([BY_READER, BY_NAME, BY_NUMBER])
    for kind in sorted(set(kinds)):
        here = np.array([k == kind for k in kinds])
        shares = [100 * float(np.mean(z[here] > t)) for z, t in ((odds, limit_found), (current, LIMIT))]
        lines.append(
            f"{kind:30s}{here.sum():5d}  flagged {shares[0]:5.1f} %, with the constants in use {shares[1]:5.1f} %"
        )
    return "\n".join(lines) + "\n"


def held_out(data: Path) -> set[str]:
    """Ids of the questions on documents that training/reader never trains on."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training" / "reader"))
    from config import Config
    from data import load_questions

    return {question.id for question in load_questions(data, Config()) if question.held_out}


def fitted(features: Floats, target: NDArray[np.bool_], penalty: float = 0.01, steps: int = 100) -> Floats:
    """(columns,) weights of a logistic regression, by Newton's method."""
    weights = np.zeros(features.shape[1])
    for _ in range(steps):
        probability = 1 / (1 + np.exp(-features @ weights))
        gradient = features.T @ (probability - target) + penalty * weights
        spread = (probability * (1 - probability))[:, None]
        weights -= np.linalg.solve((features * spread).T @ features + penalty * np.eye(len(weights)), gradient)
    return weights
