from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import CarrelError, InputError
from carrel.evaluation import Configuration, Evaluation, evaluate, load_collection, load_dataset
from carrel.evaluation.datasets import Dataset
from carrel.evaluation.systems import build_system
from carrel.types import Document

Write = Callable[..., Path]
BUDGETS = (2, 12, 1000)


@pytest.fixture
def dataset(write_dataset: Write) -> Dataset:
    return load_dataset(write_dataset())


def run(dataset: Dataset, opener: Any, *configurations: str | Configuration, **options: Any) -> Evaluation:
    return evaluate(dataset, configurations, **{"budgets": BUDGETS, "open_library": opener, **options})


def test_scores_every_question_at_every_budget(dataset: Dataset, opener: Any) -> None:
    evaluation = run(dataset, opener, "default", k_values=(1, 2))
    assert evaluation.configurations == ("first", "default")
    assert evaluation.budgets == BUDGETS
    answers = evaluation.results["default"].contexts["answer"]
    assert answers.shape == (4, 3)
    np.testing.assert_array_equal(answers[:, 0], [0, 0, 0, math.nan])  # too small for any context
    np.testing.assert_array_equal(answers[:, 2], [1, 1, 1, math.nan])  # room for everything
    np.testing.assert_array_equal(evaluation.values("default", "tokens", 2), [0, 0, 0, 0])
    assert evaluation.values("default", "recall@1")[1] == 1
    assert evaluation.values("default", "all_support", 1000)[2] == 1
    assert evaluation.values("default", "span_recall", 1000)[0] == 1
    assert np.isnan(evaluation.values("default", "span_recall", 1000)[1:]).all()
    assert (evaluation.values("default", "search_seconds") > 0).all()


def test_recall_does_not_fall_and_tokens_keep_the_budget(dataset: Dataset, opener: Any) -> None:
    evaluation = run(dataset, opener, "default", budgets=(5, 10, 20, 40, 80))
    for name in evaluation.configurations:
        for metric in ("gold_recall", "answer"):
            means = np.nanmean(evaluation.results[name].contexts[metric], axis=0)
            assert (np.diff(means) >= 0).all()
        assert (evaluation.results[name].contexts["tokens"] <= evaluation.budgets).all()


def test_options_reach_the_library_and_left_out_ones_do_not(dataset: Dataset, opener: Any) -> None:
    mine = Configuration(
        "mine", retriever="lexical", cutoff="adaptive", order="sides", mode="thorough", reranker="none", pruner="none"
    )
    run(dataset, opener, mine, k_values=(3, 40))
    searches = [options for kind, options in opener.calls if kind == "search" and options["limit"] == 40]
    assert len(searches) == 4
    assert all((call["retriever"], call["cutoff"]) == ("lexical", "adaptive") for call in searches)
    assert all((call["mode"], call["reranker"]) == ("thorough", "none") for call in searches)
    contexts = [options for kind, options in opener.calls if kind == "context"]
    assert [call["budget"] for call in contexts] == [*BUDGETS] * 4
    assert all(call["order"] == "sides" and call["limit"] is None for call in contexts)
    assert all((call["mode"], call["reranker"], call["pruner"]) == ("thorough", "none", "none") for call in contexts)


def test_rows_of_one_setup_share_one_library(dataset: Dataset, opener: Any, tmp_path: Path) -> None:
    other = Configuration("other", setup={"encoder": "big"}, retriever="dense")
    evaluation = run(dataset, opener, "dense", other, "lexical", library_path=tmp_path / "kept")
    assert [setup for _, setup in opener.opened] == [{}, {"encoder": "big"}]
    assert len({path for path, _ in opener.opened}) == 2
    assert [kind for kind, _ in opener.calls].count("add") == 2
    assert [kind for kind, _ in opener.calls].count("close") == 2
    assert evaluation.configurations == ("first", "dense", "other", "lexical")
    encoders = {key: record["encoder"] for key, record in evaluation.manifest.libraries.items()}
    assert encoders[evaluation.results["other"].library] == "big"
    assert encoders[evaluation.results["dense"].library] == "fake"
    assert evaluation.results["other"].options == {"encoder": "big", "retriever": "dense"}


def test_a_second_run_embeds_nothing_and_other_documents_get_another_library(
    write_dataset: Write, opener: Any, tmp_path: Path
) -> None:
    folder = write_dataset("one")
    kept = tmp_path / "kept"
    embedded = [
        next(iter(run(dataset, opener, "dense", library_path=kept).manifest.libraries.values()))["embedded"]
        for dataset in (load_dataset(folder), load_dataset(folder, limit=1), load_collection([folder]))
    ]
    assert embedded == [3, 0, 3]


def test_without_a_path_nothing_stays(dataset: Dataset, opener: Any) -> None:
    run(dataset, opener, "dense")
    assert not opener.opened[0][0].exists()


def test_the_manifest_says_where_the_figures_come_from(dataset: Dataset, opener: Any) -> None:
    manifest = run(dataset, opener, "dense", limit=2, seed=5).manifest
    assert (manifest.dataset, manifest.documents, manifest.questions, manifest.seed) == ("small", 3, 2, 5)
    assert (manifest.tokenizer, manifest.fingerprint) == ("words/1", dataset.fingerprint)
    assert manifest.versions["python"].startswith("3.")
    assert "numpy" in manifest.versions
    assert manifest.cpu_count >= 1
    assert manifest.date.endswith("+00:00")


def test_a_limit_asks_a_seeded_part_of_the_questions(dataset: Dataset, opener: Any) -> None:
    asked = [question.id for question in run(dataset, opener, "dense", limit=2, seed=5).questions]
    assert asked == [question.id for question in dataset.sample(2, 5).questions]


def test_the_same_run_gives_the_same_scores(dataset: Dataset, opener: Any) -> None:
    first, second = run(dataset, opener, "dense"), run(dataset, opener, "dense")
    for metric in ("answer", "gold_recall", "tokens", "span_iou"):
        np.testing.assert_array_equal(first.results["dense"].contexts[metric], second.results["dense"].contexts[metric])


def test_progress_counts_documents_and_questions(dataset: Dataset, opener: Any) -> None:
    steps: list[tuple[str, int, int]] = []
    run(dataset, opener, "dense", progress=lambda what, done, total: steps.append((what, done, total)))
    assert steps[:2] == [("library", 3, 3), ("library", 3, 3)]
    assert [step for step in steps if step[0] == "dense"] == [("dense", done, 4) for done in range(5)]


def test_setups_that_count_tokens_differently_are_refused(dataset: Dataset, opener: Any) -> None:
    def opening(path: Path, **setup: Any) -> Any:
        library = opener(path)
        library.tokenizer.name = str(setup.get("encoder", "words/1"))
        return library

    with pytest.raises(InputError, match="not comparable: the set-ups count tokens with other and words/1"):
        run(dataset, opening, "dense", Configuration("x", setup={"encoder": "other"}))


def test_a_broken_budget_is_no_result(dataset: Dataset, opener: Any) -> None:
    def lying(path: Path) -> Any:
        library = opener(path)
        answer = library.context
        library.context = lambda question, budget, **options: answer(question, budget=budget + 9, **options)
        return library

    with pytest.raises(CarrelError, match="broke its budget of 2"):
        run(dataset, lying, "dense")


@pytest.mark.parametrize("options", [{"budgets": ()}, {"budgets": (0,)}, {"k_values": (0, 1)}, {"limit": 0}])
def test_sizes_are_checked_before_anything_is_built(dataset: Dataset, opener: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="at least 1"):
        run(dataset, opener, "dense", **options)
    assert opener.opened == []


def test_objects_in_a_setup_name_the_same_library_every_time(dataset: Dataset, tmp_path: Path) -> None:
    from carrel.evaluation.runner import _library_key

    class Encoder:
        fingerprint = "minilm-1"

    assert _library_key(dataset, {"encoder": Encoder()}) == _library_key(dataset, {"encoder": Encoder()})
    assert _library_key(dataset, {"encoder": Encoder()}) != _library_key(dataset, {})


# -- the baseline


def test_the_baseline_never_looks_at_the_question(dataset: Dataset, opener: Any) -> None:
    evaluation = run(dataset, opener, "first", budgets=(12, 1000))
    assert evaluation.configurations == ("first",)
    assert {kind for kind, _ in opener.calls} == {"add", "close"}
    assert len(set(evaluation.values("first", "tokens", 12))) == 1
    np.testing.assert_array_equal(evaluation.values("first", "gold_recall", 12), [0, 0, 0.5, math.nan])
    np.testing.assert_array_equal(evaluation.values("first", "gold_recall", 1000), [1, 1, 1, math.nan])
    np.testing.assert_allclose(evaluation.values("first", "mrr"), [1 / 2, 1 / 3, 1, math.nan], atol=1e-6)


@given(st.lists(st.text("ab. \n", max_size=20), max_size=5), st.integers(1, 25))
def test_the_baseline_fills_the_budget_with_exact_beginnings(texts: list[str], budget: int) -> None:
    import re

    class Words:
        name = "words"

        def count(self, text: str) -> int:
            return len(self.offsets(text))

        def offsets(self, text: str) -> list[tuple[int, int]]:
            return [match.span() for match in re.finditer(r"\w|[^\w\s]", text)]

    documents = [Document(text, str(number)) for number, text in enumerate(texts)]

    class Library:
        tokenizer = Words()

    fitted = build_system(Library(), Configuration("b", retriever="none"), documents).fit("?", budget)  # type: ignore[arg-type]
    available = sum(Words().count(text) for text in texts)
    assert fitted.tokens == Words().count(fitted.text) == min(budget, available)
    for number, passage in enumerate(fitted.passages):
        assert passage.document_id == str(number)
        assert passage.text == texts[number][: passage.end]
        assert passage.text in fitted.text


def test_the_baseline_fits_where_joined_texts_count_more_than_their_parts() -> None:
    class Joining:
        name = "joining"

        def count(self, text: str) -> int:
            return len(text.split()) + 2 * ("\n\nd" in text)

        def offsets(self, text: str) -> list[tuple[int, int]]:
            return [(2 * place, 2 * place + 1) for place in range(len(text.split()))]

    class Library:
        tokenizer = Joining()

    documents = [Document("a b c", "1"), Document("d e f g", "2")]
    baseline = build_system(Library(), Configuration("b", retriever="none"), documents)  # type: ignore[arg-type]
    assert (baseline.fit("?", 8).text, baseline.fit("?", 8).tokens) == ("a b c\n\nd e f", 8)
    assert (baseline.fit("?", 5).text, baseline.fit("?", 5).tokens) == ("a b c", 3)


# -- the real library


def test_runs_against_carrel_itself(dataset: Dataset, tmp_path: Path) -> None:
    chosen = ["default", "fast", "no_rerank", "no_prune", "dense", "lexical", "rank_fused", "adaptive", "sides"]
    evaluation = evaluate(dataset, chosen, budgets=(64, 250), library_path=tmp_path / "kept")
    for name in chosen:
        assert (evaluation.results[name].contexts["tokens"] <= (64, 250)).all()
        assert (evaluation.results[name].contexts["tokens"][:, 1] > 0).all()
    assert evaluation.interval("default", "answer", 250).mean == 1
    assert evaluation.interval("default", "mrr").mean == 1
    again = evaluate(dataset, ["dense"], budgets=(64,), library_path=tmp_path / "kept")
    assert [record["embedded"] for record in again.manifest.libraries.values()] == [0]
    fast, fused = (
        evaluate(dataset, [name], budgets=(64,), library_path=tmp_path / "kept").results[name]
        for name in ("fast", "fused")
    )
    np.testing.assert_array_equal(fast.contexts["answer"], fused.contexts["answer"])
    np.testing.assert_array_equal(fast.contexts["tokens"], fused.contexts["tokens"])
    assert Evaluation.from_json(evaluation.to_json()).to_json() == evaluation.to_json()
