"""Checkpoints of the Provence kind, with tiny ones made here: no hub is asked."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carrel.compression.base import Pruner, passage_sentences
from carrel.compression.provence import ProvencePruner
from carrel.errors import InputError, MissingDependencyError, ModelError
from carrel.testing import PrunerConformance
from carrel.testing.passages import QUESTION, plain_passages
from carrel.tokens import model_folder
from carrel.types import Passage

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
LONG = " ".join(f"On day {n} the ferry carried {7 * n % 31} people to the northern quay." for n in range(60))

CODE = """
from dataclasses import dataclass
from transformers import BertConfig, BertModel, BertPreTrainedModel
from transformers.utils import ModelOutput
from torch import nn

class TinyConfig(BertConfig):
    model_type = "tiny_provence"

@dataclass
class TinyOutput(ModelOutput):
    OUTPUT_NAME: object = None

class Tiny(BertPreTrainedModel):
    config_class = TinyConfig
    def __init__(self, config):
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.head = nn.Linear(config.hidden_size, OUTPUTS)
        self.post_init()
    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        hidden = self.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)[0]
        return TinyOutput(OUTPUT_NAME=self.head(hidden))
"""


def make_folder(folder: Path, output: str = "pruning_logits", outputs: int = 2) -> Path:
    """A tiny model with code of its own, as the checkpoints of OpenProvence have it."""
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    torch = pytest.importorskip("torch", exc_type=ImportError)
    code = folder / "modeling_tiny.py"
    code.write_text(CODE.replace("OUTPUT_NAME", output).replace("OUTPUTS", str(outputs)), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"tiny_{output}_{outputs}", code)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    torch.manual_seed(1)
    config = module.TinyConfig(
        vocab_size=30_522, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=300,
    )  # fmt: skip
    model = module.Tiny(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.normal_(std=0.4)
    model.save_pretrained(folder)
    names: dict[str, Any] = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    names["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    file = model_folder("minilm") / "tokenizer.json"
    transformers.PreTrainedTokenizerFast(tokenizer_file=str(file), **names).save_pretrained(folder)
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    saved["auto_map"] = {"AutoConfig": "modeling_tiny.TinyConfig", "AutoModel": "modeling_tiny.Tiny"}
    (folder / "config.json").write_text(json.dumps(saved), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True, scope="module")
def _modules(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Code of models is copied to a folder of its own, not to the user's."""
    if importlib.util.find_spec("transformers") is None:
        yield
        return
    from transformers import dynamic_module_utils

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        patch.setattr(sys, "path", list(sys.path))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, _modules) -> Path:
    return make_folder(tmp_path_factory.mktemp("provence"))


@pytest.fixture(scope="module")
def shared(folder) -> ProvencePruner:
    return ProvencePruner(folder, trust_remote_code=True)


@pytest.mark.extras
class TestProvencePruner(PrunerConformance):
    tolerance = 1e-5

    @pytest.fixture(autouse=True)
    def _model(self, shared) -> None:
        self.shared = shared

    def make(self) -> Pruner:
        return ProvencePruner(self.shared.model, tokenizer=self.shared.tokenizer)


@pytest.mark.extras
@pytest.mark.parametrize("passage", [*plain_passages(), Passage("bare", 9, 9 + 20, "It is old. It leaks.")])
def test_a_sentence_scores_the_mean_of_its_tokens(shared, folder, passage: Passage) -> None:
    """The authors' way, by hand: question and context in one input, and the mean over the sentence's tokens."""
    import torch

    heading = f"{passage.prefix}\n" if passage.prefix else ""
    encoded = shared.tokenizer(QUESTION, heading + passage.text, return_tensors="pt", return_offsets_mapping=True)
    offsets = encoded.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        probabilities = shared.model(**encoded).pruning_logits[0].softmax(-1)[:, 1].tolist()
    sentences = passage_sentences(passage)
    (scores,) = shared.scores(QUESTION, [passage], [sentences])
    for span, score in zip(sentences, scores, strict=True):
        start, end = (place - passage.start + len(heading) for place in (span.start, span.end))
        inside = [
            p for p, (a, b), part in zip(probabilities, offsets, encoded.sequence_ids(0), strict=True)
            if part == 1 and start <= a < end
        ]  # fmt: skip
        assert inside and score == pytest.approx(sum(inside) / len(inside), abs=1e-5)


@pytest.mark.extras
def test_long_passages_are_read_in_windows(shared) -> None:
    """Every token's probability is that of the window in which it is farthest from an edge."""
    import torch

    text = LONG.strip()
    passage = Passage("long", 0, len(text), text)
    assert shared.window == 300
    asked = shared.tokenizer(QUESTION, add_special_tokens=False)["input_ids"]
    whole = shared.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = whole["input_ids"], whole["offset_mapping"]
    room, overlap = 300 - len(asked) - 3, 75
    covering = []
    for first in range(0, len(ids), room - overlap):
        covering.append((first, min(first + room, len(ids))))
        if covering[-1][1] == len(ids):
            break
    assert len(covering) > 3
    best: dict[int, tuple[float, float]] = {}
    for number, (first, last) in enumerate(covering):
        row = torch.tensor([[101, *asked, 102, *ids[first:last], 102]])
        types = torch.tensor([[0] * (len(asked) + 2) + [1] * (last - first + 1)])
        with torch.no_grad():
            logits = shared.model(row, torch.ones_like(row), types).pruning_logits[0]
        for token in range(first, last):
            before = np.inf if number == 0 else token - first
            after = np.inf if number == len(covering) - 1 else last - 1 - token
            value = float(logits[len(asked) + 2 + token - first].softmax(-1)[1])
            if token not in best or min(before, after) >= best[token][0]:
                best[token] = (min(before, after), value)
    sentences = passage_sentences(passage)
    (scores,) = shared.scores(QUESTION, [passage], [sentences])
    for span, score in zip(sentences, scores, strict=True):
        inside = [best[token][1] for token, (start, _) in enumerate(offsets) if span.start <= start < span.end]
        assert score == pytest.approx(sum(inside) / len(inside), abs=1e-5)


@pytest.mark.extras
@pytest.mark.parametrize(("output", "outputs"), [("compression_logits", 2), ("pruning_logits", 1)])
def test_both_kinds_of_output_are_understood(tmp_path: Path, output: str, outputs: int) -> None:
    pruner = ProvencePruner(make_folder(tmp_path, output, outputs), trust_remote_code=True)
    passages = plain_passages()
    scored = pruner.scores(QUESTION, passages, [passage_sentences(passage) for passage in passages])
    assert len({value for values in scored for value in values}) > 5


@pytest.mark.extras
def test_a_token_may_begin_with_the_space_before_it(tmp_path: Path, shared) -> None:
    """Of SentencePiece tokenizers; the first word of a sentence is not the last of the one before."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    words = [(piece, -1.0) for piece in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁", *map(chr, range(33, 127)))]
    words += [("▁It", -0.5), ("▁is", -0.5), ("▁old", -0.5)]
    tokenizer = Tokenizer(models.Unigram(words, unk_id=1))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", [("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    starts = [start for start, _ in fast("It is old. It is old.", return_offsets_mapping=True)["offset_mapping"]]
    assert 10 in starts, "this tokenizer does so: the second sentence begins at 11"
    pruner = ProvencePruner(shared.model, tokenizer=fast)
    reading, _ = pruner._read(QUESTION, [Passage("d", 0, 21, "It is old. It is old.")])[0]
    assert 11 in reading.offsets[:, 0] and 10 not in reading.offsets[:, 0]


@pytest.mark.extras
def test_special_tokens_in_a_text_are_text_and_long_questions_are_cut(shared) -> None:
    passage = Passage("d", 0, 17, "A [SEP] pier. Old")
    plain = shared.scores(QUESTION, [passage], [passage_sentences(passage)])
    assert all(0 <= value <= 1 for value in plain[0])
    seen = []

    def look(module: Any, arguments: Any, named: dict[str, Any]) -> None:
        seen.append(named["input_ids"][0].tolist())

    hook = shared.model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        shared.scores("why " * 500, [passage], [[]])
    finally:
        hook.remove()
    why = shared.tokenizer("why", add_special_tokens=False)["input_ids"]
    assert seen[0][:130] == [101, *why * 128, 102]
    assert seen[0].count(102) == 2


@pytest.mark.extras
def test_many_threads_at_once(shared) -> None:
    passages = plain_passages()
    sentences = [passage_sentences(passage) for passage in passages]
    expected, found = shared.scores(QUESTION, passages, sentences), []
    threads = [
        threading.Thread(target=lambda: found.append(shared.scores(QUESTION, passages, sentences))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 and all(scores == expected for scores in found)


# -- loading --------------------------------------------------------------------------------------


@pytest.mark.extras
def test_code_of_a_model_is_run_only_if_it_is_trusted(folder, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    code = folder / "modeling_tiny.py"
    before = code.read_text(encoding="utf-8")
    code.write_text(f"open({str(mark)!r}, 'w').close()\n{before}", encoding="utf-8")
    try:
        with pytest.raises(
            ModelError, match="code of its own: read it, and if you trust it, pass trust_remote_code=True"
        ):
            ProvencePruner(folder)
        assert not mark.exists()
        ProvencePruner(folder, trust_remote_code=True)
        assert mark.exists()
    finally:
        code.write_text(before, encoding="utf-8")


@pytest.mark.extras
def test_a_model_that_is_not_here_is_an_error_with_a_remedy() -> None:
    pytest.importorskip("transformers", exc_type=ImportError)
    with pytest.raises(ModelError, match="cannot load nobody/no-such-model: .* pass download=True"):
        ProvencePruner("nobody/no-such-model", trust_remote_code=True)


@pytest.mark.extras
def test_a_model_that_scores_no_tokens_is_refused(tmp_path: Path) -> None:
    pruner = ProvencePruner(make_folder(tmp_path, "logits"), trust_remote_code=True)
    with pytest.raises(ModelError, match="scores no tokens"):
        pruner.prune(QUESTION, plain_passages())


def test_a_model_without_a_fast_tokenizer_is_refused() -> None:
    with pytest.raises(ModelError, match="fast tokenizer"):
        ProvencePruner(object())


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r"'transformers'.*pip install 'carrel\[rerank\]'"):
        ProvencePruner(tmp_path)


@pytest.mark.parametrize("options", [{"threshold": 1.5}, {"threshold": -1.0}, {"batch_size": 0}, {"window": 100}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError):
        ProvencePruner(tmp_path, **options)
