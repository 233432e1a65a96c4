from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from carrel.errors import InputError
from carrel.evaluation.bootstrap import bootstrap_difference, bootstrap_mean
from carrel.evaluation.results import Evaluation


def same(first: Evaluation, second: Evaluation) -> bool:
    return first.to_json() == second.to_json()


def test_json_keeps_everything(make_evaluation: Any) -> None:
    evaluation = make_evaluation()
    again = Evaluation.from_json(evaluation.to_json())
    assert again.manifest == evaluation.manifest
    assert again.questions == evaluation.questions
    assert (again.budgets, again.k_values) == (evaluation.budgets, evaluation.k_values)
    assert again.configurations == evaluation.configurations
    for name in evaluation.configurations:
        for metric, scores in evaluation.results[name].contexts.items():
            np.testing.assert_array_equal(again.results[name].contexts[metric], scores)
        for metric, scores in evaluation.results[name].ranking.items():
            np.testing.assert_array_equal(again.results[name].ranking[metric], scores)


def test_json_is_plain(make_evaluation: Any) -> None:
    text = make_evaluation().to_json()
    assert "NaN" not in text
    content = json.loads(text)
    assert content["results"]["dense"]["contexts"]["span_recall"][0] == [None, None, None]
    assert content["results"]["dense"]["contexts"]["tokens"][0] == [60, 240, 960]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: "{", "not JSON"),
        (lambda content: "[]", "format is None"),
        (lambda content: json.dumps({**content, "format": "carrel-evaluation/99"}), "carrel-evaluation/99"),
        (lambda content: json.dumps({**content, "manifest": {}}), "damaged: TypeError"),
        (lambda content: json.dumps({**content, "questions": content["questions"][1:]}), "damaged: ValueError"),
        (lambda content: json.dumps({**content, "results": 7}), "damaged"),
    ],
)
def test_refuses_what_is_no_evaluation(make_evaluation: Any, change: Any, message: str) -> None:
    content = json.loads(make_evaluation().to_json())
    with pytest.raises(InputError, match=message):
        Evaluation.from_json(change(content))


def test_intervals_and_paired_differences_of_any_two_rows(make_evaluation: Any) -> None:
    evaluation = make_evaluation()
    dense = evaluation.values("dense", "answer", 250)
    first = evaluation.values("first", "answer", 250)
    assert dense.shape == (len(evaluation.questions),)
    assert evaluation.interval("dense", "answer", 250) == bootstrap_mean(dense)
    assert evaluation.difference("dense", "first", "answer", 250) == bootstrap_difference(dense, first)
    assert evaluation.interval("dense", "mrr").mean == pytest.approx(evaluation.values("dense", "mrr").mean())
    assert evaluation.interval("dense", "span_recall", 250) is None
    assert evaluation.difference("dense", "first", "span_recall", 250) is None
    assert evaluation.is_scored("answer")
    assert not evaluation.is_scored("span_recall")


def test_names_what_exists(make_evaluation: Any) -> None:
    evaluation = make_evaluation()
    with pytest.raises(InputError, match=r"no configuration 'x'. There are: first, dense"):
        evaluation.values("x", "answer", 250)
    with pytest.raises(InputError, match=r"no metric 'x'. There are: answer.*mrr"):
        evaluation.values("dense", "x", 250)
    with pytest.raises(InputError, match=r"budgets \[64, 250, 1000\], not at None"):
        evaluation.values("dense", "answer")
    with pytest.raises(InputError, match=r"no question set 'x'. Sets: one, two"):
        evaluation.select("x")


def test_selecting_a_set_keeps_its_rows(make_evaluation: Any) -> None:
    evaluation = make_evaluation()
    one, two = evaluation.select("one"), evaluation.select("two")
    assert evaluation.corpora == ("one", "two")
    assert len(one.questions) + len(two.questions) == len(evaluation.questions)
    together = one.values("dense", "answer", 64).sum() + two.values("dense", "answer", 64).sum()
    assert together == evaluation.values("dense", "answer", 64).sum()
    odd = evaluation.values("dense", "mrr")[1::2]
    np.testing.assert_array_equal(two.values("dense", "mrr"), odd)
    assert same(one.select("one"), one)
    assert not math.isnan(one.interval("dense", "answer", 64).low)
