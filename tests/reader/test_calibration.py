"""From logits to probabilities: what the file must hold, and what the features are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import ModelError
from carrel.reader.calibration import (
    Calibration,
    Logistic,
    answer_features,
    asked_features,
    keep_features,
    relevance_features,
)
from carrel.reader.reading import Reading
from carrel.tokens import model_folder
from carrel.types import Scores, Span

CONTENT: dict[str, Any] = {
    "relevance": {"bias": -1.0, "weights": {"relevance": 2.0, "dense": 0.5}},
    "answer": {"bias": 0.5, "weights": {"span": 1.0}},
    "keep_threshold": 0.1,
    "answer_threshold": 0.4,
}


def reading(relevance: float = 0.0, answerable: float = 0.0, logits: tuple[float, ...] = ()) -> Reading:
    array = np.array(logits, np.float32)
    offsets = np.array([(n, n + 1) for n in range(len(logits))], np.int64).reshape(-1, 2)
    return Reading(relevance, answerable, offsets, 1 / (1 + np.exp(-array)), array, array)


# -- logistic regression --------------------------------------------------------------------------


@given(st.floats(-5, 5), st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=6))
def test_a_probability_is_that_of_the_formula(bias: float, rows: list[tuple[float, float]]) -> None:
    model = Logistic(bias, {"a": 0.7, "b": -1.3})
    found = model.probability({"a": np.array([a for a, _ in rows]), "b": np.array([b for _, b in rows])})
    for (a, b), probability in zip(rows, found, strict=True):
        assert probability == pytest.approx(1 / (1 + math.exp(-(bias + 0.7 * a - 1.3 * b))), rel=1e-9)


def test_it_is_sure_without_overflow() -> None:
    found = Logistic(0.0, {"a": 1.0}).probability({"a": np.array([-1e9, 0.0, 1e9])})
    assert 0 < found[0] < 1e-9 and found[1] == 0.5 and 1 - 1e-9 < found[2] <= 1
    assert Logistic(0.0, {"a": 1.0}).probability({"a": np.array([])}).shape == (0,)


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_weights_are_finite(weight: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Logistic(0.0, {"a": weight})


# -- the file -------------------------------------------------------------------------------------


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(CONTENT), encoding="utf-8")
    found = Calibration.load(path)
    assert found.relevance == Logistic(-1.0, {"relevance": 2.0, "dense": 0.5})
    assert found.answer == Logistic(0.5, {"span": 1.0})
    assert (found.keep_threshold, found.answer_threshold) == (0.1, 0.4)


def test_the_shipped_file_is_sound() -> None:
    found = Calibration.load(model_folder("reader") / "calibration.json")
    assert found.relevance.weights and found.answer.weights
    assert 0 < found.keep_threshold < 1 and 0 < found.answer_threshold < 1


def changed(**values: Any) -> str:
    return json.dumps({**CONTENT, **values})


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "[]",
        "{}",
        changed(relevance={}),
        changed(relevance=[]),
        changed(answer={"bias": 0.0, "weights": {"unheard of": 1.0}}),
        changed(answer={"bias": "0", "weights": {"span": 1.0}}),
        changed(answer={"bias": 0.0, "weights": [1.0]}),
        changed(relevance={"bias": float("nan"), "weights": {"dense": 1.0}}),
        changed(keep_threshold=1.5),
        changed(answer_threshold=-0.1),
        changed(keep_threshold=float("nan")),
        changed(answer_threshold="0.4"),
    ],
)
def test_a_damaged_file_is_an_error_with_a_remedy(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "calibration.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"cannot read .*calibration\.json.*Reinstall carrel\."):
        Calibration.load(path)


# -- features -------------------------------------------------------------------------------------


def test_features_of_relevance() -> None:
    readings = [reading(2.0, -1.0), reading(-3.0, 0.5)]
    found = relevance_features(readings, [Scores(dense=0.7, lexical=4.0), Scores(dense=0.1, lexical=1.0)])
    assert {name: values.tolist() for name, values in found.items()} == {
        "relevance": [2.0, -3.0],
        "answerable": [-1.0, 0.5],
        "dense": [0.7, 0.1],
        "lexical": [1.0, 0.25],
    }


@given(st.lists(st.one_of(st.none(), st.floats(0, 50)), max_size=6))
def test_lexical_scores_are_shares_of_the_best(scores: list[float | None]) -> None:
    found = relevance_features([reading()] * len(scores), [Scores(lexical=score) for score in scores])["lexical"]
    best = max((score or 0.0 for score in scores), default=0.0)
    for score, share in zip(scores, found, strict=True):
        assert 0 <= share <= 1
        assert share == (pytest.approx((score or 0.0) / best) if best > 0 else 0.0)


def test_features_of_answers() -> None:
    found = answer_features([reading(2.0, -1.0, (0.5, 3.0, -1.0)), reading(-3.0, 0.5)])
    assert found["span"].tolist() == [6.0, -20.0], "the best span's logit; without tokens, that of no answer at all"
    assert found["answerable"].tolist() == [-1.0, 0.5]
    assert found["relevance"].tolist() == [2.0, -3.0]
    assert found["keep"][0] == pytest.approx(1 / (1 + math.exp(-3)), abs=1e-6) and found["keep"][1] == 0
    assert all(values.shape == (0,) for values in answer_features([]).values())


def test_a_sentence_has_its_share_of_the_answer() -> None:
    found = keep_features(reading(0.5, -1.0, (2.0, 0.0, 0.0, 0.0)), [Span(0, 1), Span(1, 4), Span(4, 9)])
    best = math.exp(2) / (math.exp(2) + 3)
    assert np.exp(found["share"]) == pytest.approx([best + 1e-4, 1 - best + 1e-4, 1e-4])
    assert found["keep"][:2] == pytest.approx([2.0, 0.0], abs=1e-5)
    assert found["relevance"].tolist() == [0.5] * 3 and found["answerable"].tolist() == [-1.0] * 3
    assert keep_features(reading(), [Span(0, 3)])["share"].tolist() == [math.log(1e-4)]
    assert keep_features(reading(), [])["keep"].shape == (0,)


def test_without_a_fit_a_sentence_scores_the_mean_of_its_tokens(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(CONTENT), encoding="utf-8")
    plain = Calibration.load(path).keep
    features = keep_features(reading(logits=(2.0, -1.0)), [Span(0, 1), Span(1, 2)])
    assert plain.probability(features) == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))], abs=1e-6)
    path.write_text(json.dumps({**CONTENT, "keep": {"bias": 0.0, "weights": {"length": 1.0}}}), encoding="utf-8")
    with pytest.raises(ModelError, match="no such features of keep: length"):
        Calibration.load(path)


def test_what_is_asked_has_a_threshold_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(CONTENT), encoding="utf-8")
    plain = Calibration.load(path)
    features = asked_features(np.array([0.3, 0.9]), np.array([0.99, 0.01]))
    assert plain.asked.probability(features) == pytest.approx([0.3, 0.9]) and plain.least_asked == 0.4
    fitted = {"asked": {"bias": 0.0, "weights": {"answer": 1.0, "relevance": 1.0}}, "asked_threshold": 0.25}
    path.write_text(json.dumps({**CONTENT, **fitted}), encoding="utf-8")
    found = Calibration.load(path)
    assert found.least_asked == 0.25
    odds = [0.3 / 0.7 * 99, 9 / 99]
    assert found.asked.probability(features) == pytest.approx([odd / (1 + odd) for odd in odds])
    path.write_text(json.dumps({**CONTENT, "asked_threshold": 2.0}), encoding="utf-8")
    with pytest.raises(ModelError, match="no threshold"):
        Calibration.load(path)
