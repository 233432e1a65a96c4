"""Cross-encoders of sentence-transformers, with tiny ones made here: no hub is asked."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import InputError, MissingDependencyError, ModelError
from carrel.retrieval.cross_encoder import CrossEncoderReranker, explained, sigmoid
from carrel.retrieval.reranking import Reranker
from carrel.testing import RerankerConformance
from carrel.testing.passages import QUESTION, plain_passages
from carrel.tokens import model_folder

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def make_folder(folder: Path, outputs: int = 1) -> Path:
    """A tiny model with random weights, large enough for scores to differ."""
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    torch = pytest.importorskip("torch", exc_type=ImportError)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30_522, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=256, num_labels=outputs,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2:
                weight.normal_(std=0.4 if "classifier" not in name else 0.7)
    model.save_pretrained(folder)
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    file = model_folder("minilm") / "tokenizer.json"
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(file), model_max_length=256, **names)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sentence_transformers", exc_type=ImportError)
    return make_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def loaded(folder) -> Any:
    return CrossEncoderReranker(folder).model


@pytest.mark.extras
class TestCrossEncoderReranker(RerankerConformance):
    tolerance = 1e-5

    @pytest.fixture(autouse=True)
    def _model(self, loaded) -> None:
        self.model = loaded

    def make(self) -> Reranker:
        return CrossEncoderReranker(self.model)


@pytest.mark.extras
class TestOneByOne(RerankerConformance):
    """Without padding a score is the same to the last bit."""

    @pytest.fixture(autouse=True)
    def _model(self, loaded) -> None:
        self.model = loaded

    def make(self) -> Reranker:
        return CrossEncoderReranker(self.model, scale=0.5, shift=1.0, batch_size=1)


@pytest.mark.extras
def test_a_probability_is_that_of_the_models_own_logit(folder, loaded) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    plain, calibrated = CrossEncoderReranker(loaded), CrossEncoderReranker(loaded, scale=2.0, shift=-0.5)
    for passage in plain_passages():
        inputs = tokenizer(QUESTION, f"{passage.prefix}\n{passage.text}", return_tensors="pt")
        with torch.no_grad():
            logit = float(model(**inputs).logits[0, 0])
        assert plain.scores(QUESTION, [passage]) == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
        assert calibrated.scores(QUESTION, [passage]) == pytest.approx(1 / (1 + np.exp(0.5 - 2 * logit)), abs=1e-5)


@pytest.mark.extras
def test_another_activation_may_be_given(loaded) -> None:
    logits: list[Any] = []

    def halves(values: Any) -> Any:
        logits.append(values)
        return np.full(len(values), 0.5)

    ranked = CrossEncoderReranker(loaded, activation=halves).rerank(QUESTION, plain_passages())
    assert [passage.document_id for passage in ranked] == [passage.document_id for passage in plain_passages()]
    assert logits[0].shape == (5,) and logits[0].dtype == np.float64
    assert sigmoid(logits[0]) == pytest.approx(CrossEncoderReranker(loaded).scores(QUESTION, plain_passages()))


@pytest.mark.extras
def test_the_activation_saved_with_a_model_is_not_applied_twice(folder, loaded) -> None:
    from sentence_transformers import CrossEncoder
    from torch.nn import Identity, Sigmoid

    expected = CrossEncoderReranker(loaded).scores(QUESTION, plain_passages())
    for activation in (Identity(), Sigmoid()):
        model = CrossEncoder(str(folder), activation_fn=activation, local_files_only=True)
        assert CrossEncoderReranker(model).scores(QUESTION, plain_passages()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.extras
def test_names_of_special_tokens_are_words(loaded) -> None:
    reranker = CrossEncoderReranker(loaded)
    ids = reranker.model.tokenizer("pier", "a [SEP] b [CLS]")["input_ids"]
    assert ids.count(102) == 2 and ids.count(101) == 1


@pytest.mark.extras
def test_many_threads_at_once(loaded) -> None:
    reranker, found = CrossEncoderReranker(loaded), []
    expected = reranker.scores(QUESTION, plain_passages())
    threads = [
        threading.Thread(target=lambda: found.append(reranker.scores(QUESTION, plain_passages()))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 and all(np.array_equal(scores, expected) for scores in found)


@pytest.mark.extras
def test_a_model_that_is_not_here_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", exc_type=ImportError)
    with pytest.raises(ModelError, match="cannot load nobody/no-such-model: .* pass download=True"):
        CrossEncoderReranker("nobody/no-such-model")
    with pytest.raises(ModelError, match="Check its name and its files"):
        CrossEncoderReranker(tmp_path)


@pytest.mark.extras
def test_a_classifier_is_no_reranker(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", exc_type=ImportError)
    with pytest.raises(ModelError, match="gives 3 numbers for a passage"):
        CrossEncoderReranker(make_folder(tmp_path, outputs=3))


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingDependencyError, match=r"'sentence-transformers'.*pip install 'carrel\[rerank\]'"):
        CrossEncoderReranker(tmp_path)


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"scale": 0.0}, {"scale": -1.0}, {"scale": float("nan")}, {"shift": float("inf")}]
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError):
        CrossEncoderReranker(tmp_path, **options)


@given(st.lists(st.floats(allow_nan=False), max_size=9))
def test_the_sigmoid_never_leaves_its_range(logits: list[float]) -> None:
    found = sigmoid(np.array(logits, np.float64))
    assert ((found >= 0) & (found <= 1)).all() and found.shape == (len(logits),)


def test_what_comes_with_code_is_explained() -> None:
    error = ValueError("The repository contains custom code.\nPlease pass `trust_remote_code=True`.")
    assert "read it, and if you trust it" in explained("m", error, False, False)
    assert "download=True" in explained("m", error, False, True)
