"""The figures of the reader and its thresholds, against plain recomputations."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import calibrate
import numpy as np
import pytest
from calibrate import Case, Listed, balance, cross_validated, crossing, fit, fold_of, keep_threshold, most_balanced
from card import _cell
from data import Question
from evaluate import measure, pruning_figures, shown, thresholds
from hypothesis import given
from hypothesis import strategies as st
from metrics import (
    Pruning,
    abstention,
    abstention_curve,
    auc,
    auc_draws,
    f1,
    interval,
    mean,
    ranking,
    reliability,
    resamples,
)
from reading import Read

from carrel.reader.calibration import Calibration, Logistic
from carrel.reader.reading import Reading

RANDOM = np.random.default_rng(11)
TEXT = "Belford lies on the Arno. It was founded by Ada Falk. About 9,120 people live there."
OFFSETS = np.array([(s, e) for s, e in ((0, 7), (20, 24), (26, 28), (44, 52), (54, 59), (60, 65))], np.int64)


def question(number: int, source: str = "nq_qed", answer: bool = True, title: str | None = None) -> Question:
    spans = ((TEXT.index("Ada"), TEXT.index("Ada") + 8),) if answer else ()
    return Question(f"q{number}", source, "Who?", TEXT, title or f"T{number}", spans, True)


def reading(logit: float, keep: float = 0.5, span: int = 3) -> Reading:
    """One whose best answer is the token ``span``, with ``logit`` for everything."""
    start = np.full(len(OFFSETS), -9, np.float32)
    start[span] = logit / 2
    sentences = np.array([keep / 3, keep / 3, keep, keep, keep / 2, keep / 2], np.float32)
    return Reading(logit, logit, OFFSETS, sentences, start, start.copy())


def item(
    logit: float, answer: bool = True, keep: float = 0.5, span: int = 3, number: int = 0, source: str = "s"
) -> Read:
    asked = question(number, answer=answer)
    return Read("Who?", TEXT, asked.answers, reading(logit, keep, span), asked.document, source)


@pytest.mark.parametrize(
    ("ours", "theirs", "score"),
    [
        ("Ada Falk", "ada falk!", 1), ("the Ada", "Ada", 1), ("Ada Falk", "Ada Dorn", 0.5), ("Arno", "Isar", 0),
        ("", "Isar", 0), ("Falk Falk", "Falk", 2 / 3),
    ],
)  # fmt: skip
def test_f1_counts_shared_words(ours: str, theirs: str, score: float) -> None:
    assert f1(ours, theirs) == f1(theirs, ours) == pytest.approx(score)


scored = st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 3)), min_size=2, max_size=25)


@given(scored)
def test_the_area_is_the_share_of_pairs_in_order(rows: list[tuple[bool, int, int]]) -> None:
    labels, values = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], float)
    yes, no = values[labels], values[~labels]
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in product(yes, no)]
    assert auc(labels, values) == pytest.approx(np.mean(pairs) if pairs else np.nan, nan_ok=True)
    counts = np.array([r[2] for r in rows])
    repeated = auc(np.repeat(labels, counts), np.repeat(values, counts)) if counts.any() else np.nan
    assert auc_draws(labels, values, counts[None, :].astype(float))[0] == pytest.approx(repeated, nan_ok=True)


def test_questions_of_a_paragraph_are_drawn_together() -> None:
    weights = resamples(["a", "b", "a", "c"], draws=200)
    assert weights.shape == (201, 4) and (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[1:, [0, 1, 3]].sum(axis=1) == 3).all() and weights[1:].std() > 0.5
    assert np.array_equal(weights, resamples(["a", "b", "a", "c"], draws=200))


def test_an_interval_holds_its_mean_and_narrows_with_more_questions() -> None:
    few, many = (mean(np.arange(n) % 2.0, resamples([str(i) for i in range(n)])) for n in (20, 2000))
    for each in (few, many):
        assert each["low"] < each["mean"] == 0.5 < each["high"]
    assert many["high"] - many["low"] == pytest.approx((few["high"] - few["low"]) / 10, rel=0.3)
    alike = mean(np.arange(2000) % 2.0, resamples([str(i % 20) for i in range(2000)]))  # 20 paragraphs of one kind each
    assert alike["high"] - alike["low"] == pytest.approx(few["high"] - few["low"], rel=0.3)
    assert interval(np.array([0.3, np.nan, 0.2, 0.4]), 5)["n"] == 5


def test_figures_at_a_threshold_are_what_they_say() -> None:
    labels = np.array([True, True, True, False, False])
    right, sure = np.array([1.0, 0.5, 1.0, 0, 0]), np.array([0.9, 0.8, 0.1, 0.7, 0.2])
    found = abstention(labels, right, sure, 0.5, resamples(list("abcde")))
    got = {name: value["mean"] for name, value in found.items()}
    assert got == pytest.approx({
        "f1_with_abstentions": 1.5 / 3, "answered": 2 / 3, "no_answer_accuracy": 0.5,
        "balanced_accuracy": (2 / 3 + 0.5) / 2, "squad2_f1": 2.5 / 5, "auc": 4 / 6,
    })  # fmt: skip
    assert set(abstention(labels[:3], right[:3], sure[:3], 0.5, resamples(list("abc")))) == {
        "f1_with_abstentions", "answered",
    }  # fmt: skip


def test_the_curve_passes_through_its_thresholds() -> None:
    labels, right, sure = RANDOM.random(80) < 0.5, RANDOM.random(80), RANDOM.random(80)
    curve = abstention_curve(labels, right * labels, sure)
    for threshold, score, silent in zip(*(curve[k] for k in ("threshold", "f1_with_abstentions", "no_answer_accuracy")),
                                        strict=True):  # fmt: skip
        at = abstention(labels, right * labels, sure, threshold, np.ones((2, 80)))
        assert score == pytest.approx(at["f1_with_abstentions"]["mean"])
        assert silent == pytest.approx(at["no_answer_accuracy"]["mean"])
    assert curve["no_answer_accuracy"] == sorted(curve["no_answer_accuracy"])


def test_stated_and_observed_are_compared() -> None:
    stated = np.array([0.05] * 20 + [0.95] * 20)
    perfect = np.array([True] + [False] * 19 + [True] * 19 + [False])
    assert reliability(stated, perfect)["ece"] == pytest.approx(0, abs=1e-9)
    assert reliability(stated, ~perfect)["ece"] == pytest.approx(0.9)
    assert [point[2] for point in reliability(np.array([0.0, 1.0, 1.0]), np.array([0, 1, 1]))["points"]] == [1, 2]


def test_ties_lose_in_a_ranking() -> None:
    lists = [
        (np.array([True, False, False]), np.array([0.9, 0.1, 0.2])),
        (np.array([False, True, True]), np.array([0.5, 0.5, 0.1])),
    ]
    found = ranking(lists, ["a", "b"])
    assert (found["first"]["mean"], found["in_five"]["mean"], found["mrr"]["mean"]) == (0.5, 1.0, 0.75)


def tables(count: int = 30) -> list[list[tuple[float, int, bool]]]:
    return [
        [(float(RANDOM.random()), int(RANDOM.integers(1, 30)), place == 0) for place in range(RANDOM.integers(1, 7))]
        for _ in range(count)
    ]


def test_pruning_is_counted_sentence_by_sentence() -> None:
    rows, grid = tables(), np.linspace(0, 1, 21)
    curve = Pruning(rows, grid, [str(n) for n in range(len(rows))]).curve()
    total = sum(count for table in rows for _, count, _ in table)
    for threshold, kept, removed in zip(*curve.values(), strict=True):
        stay = [(score >= threshold, count, right) for table in rows for score, count, right in table]
        assert kept == pytest.approx(sum(s for s, _, right in stay if right) / len(rows))
        assert removed == pytest.approx(sum(count for s, count, _ in stay if not s) / total)


def test_pruning_at_a_share_is_the_first_threshold_that_reaches_it() -> None:
    rows, grid = tables(), np.linspace(0, 1, 101)
    pruning = Pruning(rows, grid, [str(n) for n in range(len(rows))])
    curve = pruning.curve()
    place = next(i for i, share in enumerate(curve["removed"]) if share >= 0.6)
    at = pruning.kept_at(0.6)
    assert at["mean"] == curve["kept"][place] and at["low"] <= at["mean"] <= at["high"]
    assert pruning.removed_at(0.5)["mean"] == max(
        share for share, kept in zip(curve["removed"], curve["kept"], strict=True) if kept >= 0.5
    )
    assert pruning.at(grid[7])["kept"]["mean"] == curve["kept"][7]
    assert Pruning(rows, np.array([0.0, 0.1]), [str(n) for n in range(30)]).kept_at(0.999)["mean"] <= 1


def test_two_sentences_of_an_answer_must_both_stay() -> None:
    table = [[(0.9, 10, True), (0.2, 10, True), (0.1, 10, False)]]
    assert Pruning(table, np.array([0.0, 0.15, 0.5]), ["a"]).curve()["kept"] == [1, 1, 0]


def test_sentences_have_their_tokens_and_the_right_one() -> None:
    rows = item(1.0, keep=0.6).sentences()
    assert [count for _, count, _ in rows] == [2, 2, 2]
    assert [right for _, _, right in rows] == [False, True, False]
    assert [score for score, _, _ in rows] == pytest.approx([0.2, 0.6, 0.3])
    marked = replace(item(1.0), evidence=(0, 25))
    assert [right for _, _, right in marked.sentences()] == [True, False, False]


def test_the_best_answer_is_scored() -> None:
    assert (item(2.0).text, item(2.0).right) == ("Ada Falk", 1.0)
    assert (item(2.0, span=1).text, item(2.0, span=1).right) == ("Arno", 0.0)
    assert item(2.0, answer=False).right == 0.0


def test_the_fit_is_the_best_there_is() -> None:
    x = {"a": RANDOM.normal(size=600), "b": 5 * RANDOM.normal(size=600) + 3}
    chance = 1 / (1 + np.exp(-(0.5 + 1.5 * x["a"] - 0.3 * x["b"])))
    labels = RANDOM.random(600) < chance
    found = fit(x, labels, l2=1e-9)
    assert (found.bias, found.weights["a"], found.weights["b"]) == pytest.approx((0.5, 1.5, -0.3), abs=0.35)
    left = found.probability(x) - labels
    assert abs(left.sum()) < 1e-4 and abs(left @ x["a"]) < 1e-3 and abs(left @ x["b"]) < 1e-3  # no way is better
    counts = RANDOM.integers(1, 4, 600)
    doubled = fit({name: np.repeat(v, counts) for name, v in x.items()}, np.repeat(labels, counts), l2=0)
    weighted = fit(x, labels, counts.astype(float), l2=0)
    assert [weighted.bias, *weighted.weights.values()] == pytest.approx(
        [doubled.bias, *doubled.weights.values()], abs=1e-6
    )


def test_the_fit_survives_labels_that_can_be_parted() -> None:
    found = fit({"a": np.array([-2.0, -1, 1, 2])}, np.array([False, False, True, True]))
    assert 0 < found.weights["a"] < 50
    assert (np.diff(found.probability({"a": np.array([-2.0, -1, 1, 2])})) > 0).all()


def test_a_probability_does_not_depend_on_its_own_documents_labels() -> None:
    asked = [question(n) for n in range(60)]
    folds = np.array([fold_of(q) for q in asked])
    assert len(set(folds)) == calibrate.FOLDS
    x, labels = {"a": RANDOM.normal(size=60)}, RANDOM.random(60) < 0.5
    _, before = cross_validated(asked, x, labels)
    own = folds == folds[0]
    _, after = cross_validated(asked, x, np.where(own, ~labels, labels))
    assert np.array_equal(before[own], after[own])
    assert not np.array_equal(before[~own], after[~own])
    assert fold_of(question(1, title="same")) == fold_of(question(2, title="same"))


def test_kinds_without_an_answer_have_equal_weight_together() -> None:
    kinds = np.array(["answerable"] * 3 + ["removed"] + ["retrieved"] * 6)
    weights = balance(kinds)
    assert weights.sum() == pytest.approx(1)
    for kind, share in (("answerable", 0.5), ("removed", 0.25), ("retrieved", 0.25)):
        assert weights[kinds == kind].sum() == pytest.approx(share)


def test_the_answers_threshold_has_the_same_margin_on_both_sides() -> None:
    labels = RANDOM.random(800) < 0.5
    sure = np.clip(RANDOM.normal(0.4 + 0.2 * labels, 0.15), 0, 1)
    right = labels * (RANDOM.random(800) < 0.9)
    weights = resamples([str(n) for n in range(800)], draws=200)
    threshold = crossing(labels, right.astype(float), sure, weights)
    at = abstention(labels, right.astype(float), sure, threshold, weights)
    margins = at["f1_with_abstentions"]["mean"] - 0.58, at["no_answer_accuracy"]["mean"] - 0.70
    assert margins[0] == pytest.approx(margins[1], abs=0.03)
    best = most_balanced(labels, sure)
    assert all(
        abstention(labels, right, sure, best, weights[:2])["balanced_accuracy"]["mean"]
        >= abstention(labels, right, sure, t, weights[:2])["balanced_accuracy"]["mean"]
        for t in sure[:100]
    )


def spread_items(keep_right: np.ndarray) -> list[Read]:
    return [item(1.0, keep=float(k), number=n) for n, k in enumerate(keep_right)]


def test_the_keep_threshold_keeps_enough() -> None:
    items = spread_items(RANDOM.uniform(0.1, 0.9, 400))
    threshold, found = keep_threshold(items)
    curve = pruning_figures(items, threshold)
    assert curve["at_threshold"]["kept"]["mean"] >= 0.97
    assert threshold <= found["keeps_97_up_to"]
    sure = spread_items(np.full(50, 0.9))  # wrong sentences have a third and a half of it
    threshold, found = keep_threshold(sure)
    assert found["removes_60_from"] < threshold < found["keeps_97_up_to"]
    assert pruning_figures(sure, threshold)["at_threshold"]["removed"]["mean"] >= 0.6
    hardest = keep_threshold([*sure, *(replace(i, source="hard") for i in items)])[0]
    assert hardest == pytest.approx(keep_threshold(items)[0], rel=0.1)


def test_thresholds_hold_those_wanted() -> None:
    grid = thresholds(0.1234)
    assert grid[0] == 0 and 0.1234 in grid and (np.diff(grid) > 0).all() and grid[-1] < 1


def calibration(threshold: float = 0.5) -> Calibration:
    return Calibration(Logistic(0, {"relevance": 1.0}), Logistic(0, {"span": 1.0}), 0.4, threshold)


def test_a_set_is_measured_at_the_shipped_thresholds() -> None:
    items = [item(3.0, number=1), item(-3.0, number=2), item(2.0, answer=False, number=3), item(-2.0, False, number=4)]
    figures = measure(items, calibration())
    got = {name: figures[name]["mean"] for name in ("f1", "f1_with_abstentions", "no_answer_accuracy", "auc")}
    assert got == {"f1": 1.0, "f1_with_abstentions": 0.5, "no_answer_accuracy": 0.5, "auc": 0.5}
    assert figures["pruning"]["at_threshold"]["kept"]["mean"] == 1 and figures["answerable"] == 2
    assert figures["auc_of_one_signal"]["answerable"]["mean"] == 0.5
    line = shown("squad2", figures)
    assert "f1 100.0" in line and "no answer accuracy 50.0" in line and "kept at threshold 100.0" in line
    assert measure(items, calibration(1e-9))["f1_with_abstentions"]["mean"] == 1
    assert "no_answer_accuracy" not in measure(items[:2], calibration())


def listed(number: int, right: float, wrong: float) -> Listed:
    scores: dict[str, Any] = {"dense": 0.5, "lexical": 1.0, "fused": 0.5}
    rows = [{"label": 1, **scores}, {"label": 0, **scores}]
    return Listed(question(number), rows, ["", ""], [reading(right), reading(wrong)])


def test_relevance_is_calibrated_on_lists() -> None:
    lists = [listed(n, float(RANDOM.normal(1.5, 1)), float(RANDOM.normal(-1.5, 1))) for n in range(120)]
    model, figures = calibrate.fit_relevance(lists)
    assert set(model.weights) == set(calibrate.RELEVANCE) and model.weights["relevance"] > 0
    assert figures["reliability"]["ece"] < 0.08 and figures["passages"] == 240 and figures["right"] == 120
    assert figures["ranking"]["retriever"]["first"]["mean"] == 0  # all alike: ties lose
    assert figures["ranking"]["reader"]["first"]["mean"] == figures["ranking"]["both"]["first"]["mean"] > 0.9


def test_answers_are_calibrated_on_every_kind_of_case() -> None:
    cases = []
    for n in range(150):
        asked = question(n, "squad2")
        cases.append(Case("answerable", asked, reading(float(RANDOM.normal(2, 1.5))), 1.0))
        cases.append(Case("adversarial", question(n, "squad2", False), reading(float(RANDOM.normal(0, 1.5))), 0.0))
        cases.append(Case("removed", asked, reading(float(RANDOM.normal(-1, 1.5))), 0.0))
        cases.append(Case("retrieved", asked, reading(float(RANDOM.normal(-4, 1.5))), 0.0))
    model, threshold, figures = calibrate.fit_answer(cases)
    assert set(model.weights) == set(calibrate.ANSWER) and 0 < threshold < 1
    assert figures["cases"] == dict.fromkeys(("adversarial", "answerable", "removed", "retrieved"), 150)
    area = figures["auc_of_right"]
    assert area["adversarial"] < area["removed"] < area["retrieved"]
    at = figures["at_threshold"]
    assert at["f1_with_abstentions"]["mean"] - 0.58 == pytest.approx(at["no_answer_accuracy"]["mean"] - 0.7, abs=0.05)
    assert figures["nothing_retrieved"]["abstained"] > figures["abstained_at_threshold"]["adversarial"]


def test_a_cell_of_the_card() -> None:
    assert _cell({"mean": 0.5, "low": 0.25, "high": None}) == "50.0 [25.0, nan]"
    assert _cell(None) == _cell({"mean": None, "low": None, "high": None}) == "–"
