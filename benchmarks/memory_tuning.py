"""Fit what conversation memory weighs turns by, and when it abstains, on two dialogues; the others are for reporting.

    python benchmarks/memory_tuning.py --data DIR     # writes carrel/memory/ranking.json and controller.json

Ranking: a softmax over the turns found for a question, linear in the signals, by maximum likelihood of the evidence
with an L2 penalty. Abstention: a logistic model over the signs of the controller. Every choice (penalties, how much a
long turn pays, how much turns have to differ) is made by fitting on one of the two dialogues and measuring on the
other; then both are fitted together.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from machine import commit
from numpy.typing import NDArray

from carrel.embeddings.minilm import MiniLM
from carrel.evaluation.dialogues import ADVERSARIAL, Dialogue, DialogueQuestion, load_dialogues
from carrel.memory.controller import SIGNS, signs
from carrel.memory.recalling import DIVERSITY, LENGTH, SEARCHED, chosen
from carrel.memory.scoring import FEATURES, Scored, described, question_of, scored
from carrel.memory.words import embedded_text
from carrel.testing.memory import PlainTurns
from carrel.tokens import shipped_tokenizer

ROOT = Path(__file__).resolve().parents[1]
RANKING = ROOT / "carrel" / "memory" / "ranking.json"
CONTROLLER = ROOT / "carrel" / "memory" / "controller.json"
TUNED_ON = ("26", "30")
PENALTIES = (3.0, 10.0, 30.0, 100.0)
LENGTHS, DIVERSITIES = (0.0, 0.25, 0.5, 0.75), (0.0, 1.0, 2.0)
SIGN_PENALTIES = (1.0, 3.0, 10.0, 30.0)
FALSE_ABSTENTIONS = 0.15  # of the answerable questions tuned on; the aim is 20 % of those to come
WITHIN = 0.02  # of the best abstention, the strongest penalty is taken: there are few questions
BUDGET = 1000
_NEWTON_STEPS = 30
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Case:
    """A question of a dialogue, its candidates described, and which of them are evidence."""

    dialogue: str
    question: DialogueQuestion
    found: Scored

    @property
    def gold(self) -> NDArray[np.bool_]:
        return np.array([turn.id in self.question.evidence for turn in self.found.turns], bool)


def cases_of(dialogues: Iterable[Dialogue], tell: Callable[[str], None] = lambda text: None) -> list[Case]:
    """Every question of the dialogues with what the search finds for it."""
    encoder = MiniLM()
    cases: list[Case] = []
    for dialogue in dialogues:
        tell(dialogue.name)
        texts = [embedded_text(turn.speaker, turn.text) for turn in dialogue.turns]
        source = PlainTurns(dialogue.turns, vectors=encoder.encode_texts(texts))
        speakers = sorted({turn.speaker for turn in dialogue.turns})
        for asked in dialogue.questions:
            question = question_of(asked.text, speakers, encoder, dialogue.ends_at)
            found = source.search(question.words, question.vector, SEARCHED)
            cases.append(Case(dialogue.name, asked, described(question, found, source)))
    return cases


def fitted_ranking(cases: Sequence[Case], penalty: float, left_out: Iterable[str] = ()) -> dict[str, float]:
    """Weights of the signals: Newton's method on the penalised likelihood; ``left_out`` signals weigh nothing.

    The penalty is on weights of standardised signals, so that their units do not matter.
    """
    used = [name for name in FEATURES if name not in set(left_out)]
    columns = [FEATURES.index(name) for name in used]
    rows = [
        (case.found.features[:, columns], case.gold)
        for case in cases
        if case.question.kind != ADVERSARIAL and case.gold.any()
    ]
    spread = np.vstack([features for features, _ in rows]).std(axis=0)
    spread[spread < 1e-9] = 1.0
    scaled = [(features / spread, gold) for features, gold in rows]
    weights = np.zeros(len(columns))
    loss, slope, curve = _likelihood(scaled, weights, penalty)
    for _ in range(_NEWTON_STEPS):
        step, rate = np.linalg.solve(curve, slope), 1.0
        while rate > 1e-6:
            tried = _likelihood(scaled, weights - rate * step, penalty)
            if tried[0] <= loss:
                break
            rate /= 2
        weights = weights - rate * step
        done = loss - tried[0] < 1e-9
        loss, slope, curve = tried
        if done:
            break
    return {name: float(weight) for name, weight in zip(used, weights / spread, strict=True)}


def _likelihood(
    rows: Sequence[tuple[Floats, NDArray[np.bool_]]], weights: Floats, penalty: float
) -> tuple[float, Floats, Floats]:
    """The penalised negative logarithm of the likelihood, its gradient and its second derivative."""
    loss, slope, curve = penalty / 2 * float(weights @ weights), penalty * weights, penalty * np.eye(len(weights))
    for z, gold in rows:  # (turns, signals), (turns,)
        scores = z @ weights
        share = np.exp(scores - scores.max())
        total = float(share.sum())
        share /= total
        mean = share @ z
        loss -= float(scores[gold].mean() - scores.max() - np.log(total))
        slope = slope + mean - z[gold].mean(axis=0)
        curve = curve + (z * share[:, None]).T @ z - np.outer(mean, mean)
    return loss, slope, curve


def fitted_logistic(table: Floats, truth: NDArray[np.bool_], penalty: float) -> tuple[Floats, float]:
    """Weights and bias of a logistic regression with an L2 penalty on standardised columns."""
    mean, spread = table.mean(axis=0), table.std(axis=0)
    spread[spread < 1e-9] = 1.0
    z = np.hstack([(table - mean) / spread, np.ones((len(table), 1))])
    ridge = np.diag([penalty] * table.shape[1] + [1e-6])
    weights = np.zeros(z.shape[1])
    for _ in range(_NEWTON_STEPS):
        share = 1 / (1 + np.exp(-z @ weights))
        slope = z.T @ (share - truth) + ridge @ weights
        weights -= np.linalg.solve((z * (share * (1 - share))[:, None]).T @ z + ridge, slope)
    return weights[:-1] / spread, float(weights[-1] - (weights[:-1] / spread) @ mean)


def shares_of(
    cases: Sequence[Case], weights: Mapping[str, Mapping[str, float]], *, length: float = LENGTH,
    diversity: float = DIVERSITY,
) -> dict[str, list[float]]:  # fmt: skip
    """The share of evidence within the budget, question by question; ``weights`` by dialogue."""
    tokenizer = _Counting()
    shares: dict[str, list[float]] = {}
    for case in cases:
        if case.question.kind == ADVERSARIAL or not case.question.evidence:
            continue
        found = scored(case.found, weights[case.dialogue])
        _, taken = chosen(found, tokenizer, BUDGET, length=length, diversity=diversity)
        ids = {turn.id for turn in taken}
        share = sum(id in ids for id in case.question.evidence) / len(case.question.evidence)
        for kind in (case.question.kind, "all"):
            shares.setdefault(kind, []).append(share)
    return shares


def recall_of(
    cases: Sequence[Case], weights: Mapping[str, Mapping[str, float]], *, length: float = LENGTH,
    diversity: float = DIVERSITY,
) -> dict[str, float]:  # fmt: skip
    """The mean of those shares, by kind of question and of all."""
    found = shares_of(cases, weights, length=length, diversity=diversity)
    return {kind: round(float(np.mean(values)), 4) for kind, values in sorted(found.items())}


class _Counting:
    """The shipped tokenizer, which counts the same line once."""

    name = "all-MiniLM-L6-v2"

    def __init__(self) -> None:
        self.count = lru_cache(maxsize=None)(shipped_tokenizer().count)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return shipped_tokenizer().offsets(text)

    def truncate(self, text: str, limit: int) -> str:
        return shipped_tokenizer().truncate(text, limit)


def crossed(cases: Sequence[Case], fit: Callable[[Sequence[Case]], Any]) -> dict[str, Any]:
    """For each dialogue, what is fitted on the others."""
    names = sorted({case.dialogue for case in cases})
    return {name: fit([case for case in cases if case.dialogue != name]) for name in names}


def tuned_ranking(cases: Sequence[Case]) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """The ranking to commit, and, for each dialogue, the weights that never saw it."""
    tried = []
    for penalty in PENALTIES:
        weights = crossed(cases, lambda some, penalty=penalty: fitted_ranking(some, penalty))  # type: ignore[misc]
        tried.append({"penalty": penalty, "recall": recall_of(cases, weights)})
    best = max(tried, key=lambda row: row["recall"]["all"])
    weights = crossed(cases, lambda some: fitted_ranking(some, best["penalty"]))
    packed = [
        {"length": one, "diversity": other, "recall": recall_of(cases, weights, length=one, diversity=other)}
        for one, other in itertools.product(LENGTHS, DIVERSITIES)
    ]
    final = fitted_ranking(cases, best["penalty"])
    content = {
        "weights": {name: round(weight, 4) for name, weight in final.items()},
        "penalty": best["penalty"],
        "cross_validated": {"penalties": tried, "packing": packed},
    }
    return content, weights


def tuned_controller(
    cases: Sequence[Case], weights: Mapping[str, Mapping[str, float]], final: Mapping[str, float]
) -> dict[str, Any]:
    """The controller to commit. The signs it is fitted on are of rankings that never saw the dialogue."""
    told = [signs(scored(case.found, weights[case.dialogue])) for case in cases]
    table = np.array([[row[name] for name in SIGNS] for row in told])
    truth = np.array([case.question.kind != ADVERSARIAL for case in cases], bool)
    where = np.array([case.dialogue for case in cases])
    tried = []
    for penalty in SIGN_PENALTIES:
        odds = np.zeros(len(cases))
        for name in sorted(set(where)):
            fit, bias = fitted_logistic(table[where != name], truth[where != name], penalty)
            odds[where == name] = table[where == name] @ fit + bias
        limit = float(np.quantile(odds[truth], FALSE_ABSTENTIONS))
        tried.append({"penalty": penalty, "abstained_adversarial": round(float(np.mean(odds[~truth] < limit)), 4)})
    least = max(row["abstained_adversarial"] for row in tried) - WITHIN
    best = max((row for row in tried if row["abstained_adversarial"] >= least), key=lambda row: row["penalty"])
    fit, bias = fitted_logistic(table, truth, best["penalty"])
    limit = float(np.quantile((table @ fit + bias)[truth], FALSE_ABSTENTIONS))
    return {
        "weights": {name: round(float(weight), 4) for name, weight in zip(SIGNS, fit, strict=True)},
        "bias": round(bias - limit, 4),
        "penalty": best["penalty"],
        "abstains_on_answerable": FALSE_ABSTENTIONS,
        "cross_validated": tried,
    }


def main() -> None:
    """Fit and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with dialogues/26 and dialogues/30")
    data = parser.parse_args().data
    dialogues = load_dialogues(data, TUNED_ON)
    cases = cases_of(dialogues, lambda text: print(f"reading dialogue {text}", flush=True))
    source = {
        "made_by": "benchmarks/memory_tuning.py",
        "fitted_on": "LoCoMo (Maharana et al., arXiv 2402.17753), dialogues " + " and ".join(TUNED_ON),
        "fingerprints": [dialogue.fingerprint for dialogue in dialogues],
        "questions": sum(len(dialogue.questions) for dialogue in dialogues),
        "commit": commit(ROOT)[:12],
    }
    ranking, weights = tuned_ranking(cases)
    controller = tuned_controller(cases, weights, ranking["weights"])
    for path, content in ((RANKING, ranking), (CONTROLLER, controller)):
        path.write_text(json.dumps({**source, **content}, indent=1) + "\n", encoding="utf-8")
    for row in (*ranking["cross_validated"]["penalties"], *ranking["cross_validated"]["packing"]):
        print(row)
    print(controller)


if __name__ == "__main__":
    main()
