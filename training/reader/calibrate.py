"""Fit probabilities and thresholds on held-out documents: the stage `calibrate` of reproduce.py.

Nothing here is fitted on what the reader was trained on, and nothing on the development sets. Every figure is
cross-validated: that of a question comes from a fit without its document.

**Relevance.** A logistic regression over the reader's two logits of a passage and the retriever's scores (dense,
and BM25 over the best of the list), on the lists that Carrel's own retriever gives for held-out questions, over
all training paragraphs. So a probability is that of a passage in such a list.

**Answer.** The same over the span's logit above no answer and two more, for "this span is right" (F1 >= 0.5 with
the reference). A reader meets two kinds of passage without the answer, and one threshold must do for both: those
about the matter that do not say it, and those that retrieval brought though they are about something else. So
there are three kinds of case without an answer, of equal weight together with those that have one:

* ``adversarial``: SQuAD 2.0's unanswerable questions, written by people to look answerable (few: two articles);
* ``removed``: answerable questions whose paragraph lost every sentence with the answer;
* ``retrieved``: the passages that rank highest and do not hold it.

**The threshold of an answer** balances two demands on the held-out questions of SQuAD 2.0, asked of their own
paragraph: the F1 over answerable questions, where an abstention counts 0, and the share of the others that get no
answer. It is where both are as far above, or below, what is wanted of them (58 and 70 %); the median over a bootstrap,
as one question more or less moves a single crossing.

**Keeping a sentence.** The same over the mean keep-probability of its tokens, its share of the answer's probability
and the reader's two logits of the passage, for "this sentence holds the answer".

**The threshold of pruning** keeps 97 % of the answers' sentences and removes 60 % of the tokens, with the same
room on either side (the geometric middle) on the source where that is hardest; where both cannot be had, it keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from data import Question, fraction
from evaluate import KEPT, REMOVED, RIGHT, thresholds
from metrics import Bools, Floats, Pruning, Sentence, abstention, abstention_curve, auc, ranking, reliability, resamples
from numpy.typing import NDArray
from reading import Read, Tell, read_all, read_questions

from carrel.reader.calibration import Logistic, answer_features, keep_features, relevance_features
from carrel.reader.model import ReaderInput, ReaderModel
from carrel.reader.reading import Reading
from carrel.retrieval.sentences import split_sentences
from carrel.types import Scores
from examples import without

FOLDS = 5
RELEVANCE = ("relevance", "answerable", "dense", "lexical")
ANSWER = ("span", "answerable", "keep")  # relevance is a matter of the domain, and added nothing
KEEP = ("keep", "share", "answerable", "relevance")
WANTED_F1, WANTED_SILENT = 0.58, 0.70
"""What is asked of the answers: F1 with abstentions as errors, and no-answer accuracy."""
WRONG_EACH = 3
"""Wrong passages of a question that the answers are calibrated on."""


@dataclass(frozen=True)
class Listed:
    """One held-out question with its candidates as the retriever gave them, and what the reader says of each."""

    question: Question
    rows: list[dict[str, Any]]
    texts: list[str]
    readings: list[Reading]

    @property
    def labels(self) -> Bools:
        return np.array([row["label"] == 1 for row in self.rows], bool)

    @cached_property
    def features(self) -> dict[str, Floats]:
        scores = [Scores(dense=row["dense"], lexical=row["lexical"], fused=row["fused"]) for row in self.rows]
        return {**relevance_features(self.readings, scores), "fused": np.array([row["fused"] for row in self.rows])}


@dataclass(frozen=True)
class Case:
    """A passage with or without the answer, as the answers are calibrated on; ``kind`` as above, or ``answerable``."""

    kind: str
    question: Question
    reading: Reading
    right: float  # F1 of the best span


def read_lists(
    model: ReaderModel,
    questions: Sequence[Question],
    candidates: Mapping[str, Any],
    pool: Mapping[str, Any],
    tell: Tell,
) -> list[Listed]:
    """Read every candidate of every question; what may or may not be right is left out.

    So is its own paragraph where the question has no answer: that is no bad passage to find.
    """
    chosen, texts, asked = [], [], []
    for question in questions:
        rows = [
            row
            for row in candidates[question.id]
            if row["label"] >= 0 and (question.answers or row["document"] != question.document)
        ]
        chosen.append(rows)
        texts.append([pool[row["document"]]["text"][row["start"] : row["end"]] for row in rows])
        titles = [pool[row["document"]]["title"] for row in rows]
        asked.append((question.question, [ReaderInput(*pair) for pair in zip(titles, texts[-1], strict=True)]))
    readings = read_all(model, asked, tell, "candidates")
    return [Listed(*parts) for parts in zip(questions, chosen, texts, readings, strict=True) if parts[1]]


def read_cases(
    model: ReaderModel, questions: Sequence[Question], own: Sequence[Read], lists: Sequence[Listed], tell: Tell
) -> list[Case]:
    """All cases of held-out questions: their own paragraphs, those without the answer's sentences, those retrieved."""
    cases = [
        Case("answerable" if item.answerable else "adversarial", question, item.reading, item.right)
        for question, item in zip(questions, own, strict=True)
    ]
    asked, of = [], []
    for question in questions:
        rest = without(question.context, question.answers) if question.answers else ""
        if rest:
            asked.append((question.question, [ReaderInput(question.title, rest)]))
            of.append(question)
    for question, [reading] in zip(of, read_all(model, asked, tell, "without the answer"), strict=True):
        cases.append(Case("removed", question, reading, 0.0))
    for item in lists:
        wrong = [reading for reading, right in zip(item.readings, item.labels, strict=True) if not right]
        cases += [Case("retrieved", item.question, reading, 0.0) for reading in wrong[:WRONG_EACH]]
    return cases


def fit(features: Mapping[str, Floats], labels: Bools, weights: Floats | None = None, l2: float = 1.0) -> Logistic:
    """Logistic regression by Newton's method; a small penalty on the weights, each in its feature's own unit."""
    names = list(features)
    x = np.column_stack([np.ones(len(labels)), *(features[name] for name in names)])
    each = np.ones(len(labels)) if weights is None else weights * len(labels) / weights.sum()
    penalty = l2 * np.array([0.0, *(features[name].var() for name in names)])
    solution = np.zeros(x.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(x @ solution, -30, 30)))
        gradient = x.T @ (each * (p - labels)) + penalty * solution
        hessian = (x * (each * p * (1 - p))[:, None]).T @ x + np.diag(penalty + 1e-9)
        step = np.linalg.solve(hessian, gradient)
        solution -= step / max(1.0, np.abs(step * np.array([1.0, *(features[n].std() for n in names)])).max() / 2)
        if np.abs(step).max() < 1e-8:
            break
    return Logistic(float(solution[0]), dict(zip(names, map(float, solution[1:]), strict=True)))


def fold_of(question: Question) -> int:
    """Questions of one document are in one fold."""
    return int(FOLDS * fraction(f"fold:{question.title or question.document}"))


def cross_validated(
    questions: Sequence[Question], features: Mapping[str, Floats], labels: Bools, weights: Floats | None = None
) -> tuple[Logistic, Floats]:
    """The fit on all, and for each item the probability by a fit without its document's fold."""
    folds = np.array([fold_of(question) for question in questions])
    whole = fit(features, labels, weights)
    out = whole.probability(features)
    for fold in np.unique(folds):
        rest = folds != fold
        if 0 < labels[rest].sum() < rest.sum():
            part = fit(
                {n: v[rest] for n, v in features.items()}, labels[rest], None if weights is None else weights[rest]
            )
            out[~rest] = part.probability({name: values[~rest] for name, values in features.items()})
    return whole, out


def fit_relevance(lists: Sequence[Listed]) -> tuple[Logistic, dict[str, Any]]:
    """The calibration of relevance, and figures: ranking by the retriever, by the reader alone, by both."""
    tables = {name: np.concatenate([item.features[name] for item in lists]) for name in RELEVANCE}
    labels = np.concatenate([item.labels for item in lists])
    of = [item.question for item in lists for _ in item.rows]
    model, probability = cross_validated(of, tables, labels)
    each = np.split(probability, np.cumsum([len(item.rows) for item in lists])[:-1])
    found = [(item, both) for item, both in zip(lists, each, strict=True) if item.labels.any()]
    keys = [item.question.document for item, _ in found]
    ways: dict[str, Callable[[Listed, Floats], Floats]] = {
        "retriever": lambda item, _: item.features["fused"],
        "reader": lambda item, _: item.features["relevance"],
        "both": lambda _, both: both,
    }
    figures = {
        "passages": len(labels),
        "right": int(labels.sum()),
        "auc": auc(labels, probability),
        "reliability": reliability(probability, labels),
        "reliability_of_the_first": _first(lists, each),
        "questions_ranked": len(found),
        "ranking": {n: ranking([(item.labels, way(item, b)) for item, b in found], keys) for n, way in ways.items()},
    }
    return model, figures


def _first(lists: Sequence[Listed], each: Sequence[Floats]) -> dict[str, Any]:
    """Reliability of the best passage of each list alone: most of a list is wrong, and easily told to be."""
    places = [int(np.argmax(scores)) for scores in each]
    best = np.array([scores[place] for scores, place in zip(each, places, strict=True)])
    return reliability(best, np.array([item.labels[place] for item, place in zip(lists, places, strict=True)]))


def fit_answer(cases: Sequence[Case]) -> tuple[Logistic, float, dict[str, Any]]:
    """The calibration of answers, their threshold, and figures."""
    every = answer_features([case.reading for case in cases])
    features = {name: every[name] for name in ANSWER}
    right = np.array([case.right for case in cases])
    kinds = np.array([case.kind for case in cases])
    model, probability = cross_validated([case.question for case in cases], features, right >= RIGHT, balance(kinds))
    # one's own paragraph of SQuAD 2.0: what the two demands are about, if the files have it
    own = np.isin(kinds, ("answerable", "adversarial"))
    squad2 = own & np.array([case.question.source == "squad2" for case in cases])
    chosen = squad2 if len(set(kinds[squad2])) == 2 else np.isin(kinds, ("answerable", "removed"))
    labels, keys = kinds == "answerable", [case.question.document for case in cases]
    weights = resamples([key for key, used in zip(keys, chosen, strict=True) if used])
    measured = (labels[chosen], right[chosen], probability[chosen])
    threshold, best = crossing(*measured, weights), most_balanced(labels[chosen], probability[chosen])
    each = {str(kind): kinds == kind for kind in np.unique(kinds)}
    figures = {
        "cases": {kind: int(own.sum()) for kind, own in each.items()},
        "reliability": reliability(probability, right >= RIGHT, weights=balance(kinds)),
        "auc_of_right": {
            kind: auc((right >= RIGHT)[labels | own], probability[labels | own])
            for kind, own in each.items()
            if kind != "answerable"
        },
        "at_threshold": abstention(*measured, threshold, weights),
        "abstained_at_threshold": {kind: float((probability[own] < threshold).mean()) for kind, own in each.items()},
        "nothing_retrieved": nothing_retrieved(cases, kinds, probability, threshold),
        "threshold_of_best_balanced_accuracy": best,
        "curve": abstention_curve(*measured),
    }  # fmt: skip
    return model, threshold, figures


def balance(kinds: NDArray[np.str_]) -> Floats:
    """Weights by which half of the cases have an answer, and the kinds without one have equal parts of the rest."""
    empty = [kind for kind in np.unique(kinds) if kind != "answerable"]
    out = np.zeros(len(kinds))
    for kind in np.unique(kinds):
        share = 0.5 if kind == "answerable" else 0.5 / len(empty)
        out[kinds == kind] = share / (kinds == kind).sum()
    return out


def crossing(labels: Bools, right: Floats, confidence: Floats, weights: Floats) -> float:
    """The threshold at which both demands have the same margin: median over the draws of the bootstrap."""
    order = np.unique(confidence)
    given = confidence[None, :] >= order[:, None]  # (thresholds, questions)
    drawn = weights[(weights @ labels > 0) & (weights @ ~labels > 0)]
    f1 = (drawn * labels) @ (given * right).T / (drawn @ labels)[:, None]  # (draws, thresholds), falling
    silent = (drawn * ~labels) @ (~given).T / (drawn @ ~labels)[:, None]  # rising
    at = np.abs((f1 - WANTED_F1) - (silent - WANTED_SILENT)).argmin(axis=1)
    return float(np.median(order[at]))


def most_balanced(labels: Bools, confidence: Floats) -> float:
    """The threshold of the best balanced accuracy."""
    order = np.unique(confidence)
    both = [((confidence[labels] >= t).mean() + (confidence[~labels] < t).mean()) / 2 for t in order]
    return float(order[int(np.argmax(both))])


def nothing_retrieved(
    cases: Sequence[Case], kinds: NDArray[np.str_], confidence: Floats, threshold: float
) -> dict[str, Any]:
    """Of questions shown the best wrong passages alone: the share that get no answer from any of them."""
    surest: dict[str, float] = {}
    for case, kind, sure in zip(cases, kinds, confidence, strict=True):
        if kind == "retrieved":
            surest[case.question.id] = max(float(sure), surest.get(case.question.id, 0.0))
    silent = [sure < threshold for sure in surest.values()]
    return {
        "questions": len(silent),
        "passages_each": WRONG_EACH,
        "abstained": float(np.mean(silent)) if silent else None,
    }


def fit_keep(own: Sequence[tuple[Question, Read]], lists: Sequence[Listed]) -> tuple[Logistic, list[list[Sentence]]]:
    """The score of sentences, and the sentences of each paragraph scored by a fit without its document's fold.

    Learnt from the sentences of paragraphs with the answer and, with a third of the weight, from those of the
    wrong passages that rank highest, of which nothing is worth keeping.
    """
    wrong = [
        (item.question, Read(item.question.question, text, (), reading, item.question.document))
        for item in lists
        for text, reading, right in list(zip(item.texts, item.readings, item.labels, strict=True))[:WRONG_EACH]
        if not right
    ]
    read = [*own, *wrong]
    rows = [_sentence_rows(item) for _, item in read]
    features = {name: np.concatenate([row[name] for row, _ in rows]) for name in KEEP}
    labels = np.concatenate([right for _, right in rows])
    of = [question for (question, _), (_, right) in zip(read, rows, strict=True) for _ in right]
    count = sum(len(right) for _, right in rows[: len(own)])
    weights = np.ones(len(labels))
    weights[count:] = 0.5 * count / max(1, len(labels) - count)
    model, scores = cross_validated(of, features, labels, weights)
    each = iter(np.split(scores, np.cumsum([len(right) for _, right in rows])[:-1]))
    return model, [
        [(float(score), tokens, right) for score, (_, tokens, right) in zip(next(each), item.sentences(), strict=True)]
        for _, item in own
    ]


def _sentence_rows(item: Read) -> tuple[dict[str, Floats], Bools]:
    features = keep_features(item.reading, split_sentences(item.context))
    return features, np.array([right for _, _, right in item.sentences()], bool)


def keep_threshold(
    items: Sequence[Read], tables: Sequence[Sequence[Sentence]] | None = None
) -> tuple[float, dict[str, Any]]:
    """The threshold of pruning, and the curves of each source that it was chosen on.

    ``tables`` are the scored sentences of each item; by default scored by the mean of their tokens.
    """
    grid = thresholds()[1:]
    curves = {}
    tables = [item.sentences() for item in items] if tables is None else tables
    for source in sorted({item.source for item in items}):
        own = [item for item in items if item.source == source]
        scored = [table for item, table in zip(items, tables, strict=True) if item.source == source]
        pruning = Pruning(scored, grid, [item.document for item in own])
        curves[source] = {
            "questions": len(own), "curve": pruning.curve(), "kept_at_60_removed": pruning.kept_at(REMOVED),
            "removed_at_97_kept": pruning.removed_at(KEPT),
        }  # fmt: skip
    highest = min(_last(c["curve"]["threshold"], c["curve"]["kept"], KEPT) for c in curves.values())
    lowest = max(_first_with(c["curve"]["threshold"], c["curve"]["removed"], REMOVED) for c in curves.values())
    chosen = float(np.sqrt(highest * lowest)) if lowest < highest else highest
    return chosen, {"keeps_97_up_to": highest, "removes_60_from": lowest, "sources": curves}


def _last(at: Sequence[float], values: Sequence[float], wanted: float) -> float:
    """The last threshold up to which a falling curve is high enough."""
    return max((t for t, value in zip(at, values, strict=True) if value >= wanted), default=at[0])


def _first_with(at: Sequence[float], values: Sequence[float], wanted: float) -> float:
    """The first threshold from which a rising curve is high enough."""
    return min((t for t, value in zip(at, values, strict=True) if value >= wanted), default=at[-1])


def calibrate(
    model: ReaderModel,
    questions: Sequence[Question],
    candidates: Mapping[str, Any],
    pool: Mapping[str, Any],
    tell: Tell,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is written to calibration.json, and the figures behind it."""
    own = read_questions(model, questions, tell, "held-out paragraphs")
    lists = read_lists(model, questions, candidates, pool, tell)
    relevance, relevance_figures = fit_relevance(lists)
    cases = read_cases(model, questions, own, lists, tell)
    answer, answer_threshold, answer_figures = fit_answer(cases)
    asked = [(question, item) for question, item in zip(questions, own, strict=True) if item.answerable]
    answerable = [item for _, item in asked]
    keep, tables = fit_keep(asked, lists)
    least, keep_figures = keep_threshold(answerable, tables)
    keep_figures["by_tokens_alone"] = keep_threshold(answerable)[1]["sources"]
    content = {
        "relevance": {"bias": relevance.bias, "weights": dict(relevance.weights)},
        "answer": {"bias": answer.bias, "weights": dict(answer.weights)},
        "keep": {"bias": keep.bias, "weights": dict(keep.weights)},
        "keep_threshold": least,
        "answer_threshold": answer_threshold,
    }
    return content, {
        "questions": len(questions),
        "relevance": relevance_figures,
        "answer": answer_figures,
        "keep": keep_figures,
    }
