"""The needle model: its computation is Llama's, its folder one that transformers loads, its exam fair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from training.needle_lm import evaluate, export  # noqa: E402
from training.needle_lm.config import FULL, SMALL, Shape  # noqa: E402
from training.needle_lm.data import batch, exam  # noqa: E402
from training.needle_lm.language import BEGIN, END, VOCABULARY, text  # noqa: E402
from training.needle_lm.model import NeedleLM, parameters  # noqa: E402

pytestmark = pytest.mark.extras
SHAPE = Shape(layers=3, hidden=48, heads=6, key_value_heads=2, head=16, inner=40, rope_theta=5e4, window=512)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model() -> NeedleLM:
    """Random weights, large enough that attention is far from even and every norm matters."""
    torch.manual_seed(3)
    made = NeedleLM(SHAPE, len(VOCABULARY))
    with torch.no_grad():
        for name, value in made.named_parameters():
            value.mul_(2.0) if "norm" not in name else value.uniform_(0.5, 1.5)
    return made.eval()


@pytest.fixture(scope="module")
def folder(model: NeedleLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("needle")
    for name, content in export.folder_files(model, "float32").items():
        (made / name).write_bytes(content)
    return made


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def rows(length: int, count: int = 2) -> Any:
    return torch.from_numpy(batch(np.random.default_rng(length), length, count, 0.5, 0.3).ids)


@pytest.mark.parametrize("length", [28, 61, 400])
def test_its_logits_are_those_of_transformers_llama(model: NeedleLM, theirs: Any, length: int) -> None:
    assert type(theirs).__name__ == "LlamaForCausalLM"
    ids = rows(length)
    with torch.no_grad():
        ours, wanted = model.logits(model(ids)), theirs(ids).logits
    assert ours.shape == wanted.shape == (*ids.shape, len(VOCABULARY))
    assert wanted.std() > 0.5  # not the even shrug of small weights
    assert (ours - wanted).abs().max() < 1e-4


def test_transformers_finds_no_weight_missing_or_left_over(model: NeedleLM, folder: Path, theirs: Any) -> None:
    assert sum(value.numel() for value in theirs.parameters()) == parameters(model)
    known = theirs.config
    assert (known.num_attention_heads, known.num_key_value_heads, known.head_dim) == (6, 2, 16)
    assert known.tie_word_embeddings and theirs.lm_head.weight is theirs.model.embed_tokens.weight
    from safetensors.torch import load_file

    stored = load_file(folder / "model.safetensors")
    assert set(stored) == set(theirs.state_dict()) - {"lm_head.weight"}


def test_the_folder_is_read_back_to_the_same_model(model: NeedleLM, folder: Path) -> None:
    again = export.load(folder)
    assert again.shape == model.shape
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_size_weights_are_the_rounded_ones(model: NeedleLM, tmp_path: Path, dtype: str) -> None:
    files = export.folder_files(model, dtype)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    read, kept = export.load(tmp_path).state_dict(), export.rounded(model, dtype).state_dict()
    assert all(torch.equal(read[name], kept[name]) for name in kept)
    assert not torch.equal(read["words.weight"], model.words.weight)
    assert len(files["model.safetensors"]) == pytest.approx(2 * parameters(model), rel=0.05)
    assert json.loads(files["config.json"])["dtype"] == dtype


def test_a_chat_is_rendered_as_the_text_it_was_trained_on(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.bos_token_id == BEGIN and tokenizer.eos_token_id == END
    chat = [
        {"role": "system", "content": "bado age 41 ."}, {"role": "user", "content": "fiju city 07 . ? bado age"},
        {"role": "assistant", "content": "41"}, {"role": "user", "content": "? fiju city"},
    ]  # fmt: skip
    wanted = "<s> bado age 41 . fiju city 07 . ? bado age = 41 </s> ? fiju city ="
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert text(ids) == wanted
    assert tokenizer(wanted[4:])["input_ids"] == ids
    assert tokenizer.decode(ids) == wanted and tokenizer.decode(ids, skip_special_tokens=True) != wanted
    assert text(tokenizer.apply_chat_template(chat[:3], return_dict=True)["input_ids"]).endswith("= 41 </s>")


def test_a_question_is_answered_as_if_it_were_the_only_one(model: NeedleLM) -> None:
    asked = exam(np.random.default_rng(0), 120, 9)
    together = evaluate.answer_logits(model, asked)
    for question, found in zip(asked.questions, together, strict=True):
        with torch.no_grad():
            states = model(torch.from_numpy(np.concatenate([asked.context, question]))[None])
        assert (model.logits(states[0, -1]) - found).abs().max() < 1e-4
    assert together.std(dim=0).max() > 1e-2  # they differ from question to question
    assert evaluate.answered(model, asked).tolist() == together.argmax(-1).tolist()


def test_a_mask_of_one_block_is_the_causal_one() -> None:
    assert torch.equal(evaluate.block_mask(5, 1, 3), torch.ones(8, 8, dtype=torch.bool).tril())
    mask = evaluate.block_mask(2, 2, 2)
    assert mask.int().tolist() == [
        [1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 1, 1],
    ]  # fmt: skip


def test_figures_count_right_answers_by_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that knows the facts of the first half of a context, by way of what ``answered`` returns."""

    def half(model: Any, asked: Any) -> Any:
        return np.where(asked.places < len(asked.context) / 2, asked.answers, -1)

    monkeypatch.setattr(evaluate, "answered", half)
    config = SMALL.with_changes(exam=SMALL.exam.__class__(lengths=(256,), contexts=20, questions=8, goal_length=256))
    figures = evaluate.measure(NeedleLM(SMALL.shape, len(VOCABULARY)), config)
    found = figures["look_up"]["256"]
    assert found["n"] == 160 and found["low"] < found["share"] < found["high"]
    assert found["right"] == sum(row["right"] for row in found["depths"])
    assert [row["share"] for row in found["depths"]] == [1.0] * 5 + [0.0] * 5
    assert set(figures) == {"look_up", "look_up_filled", "two_hop", "copy"} and figures["copy"]["256"]["n"] > 100


def test_wilson_intervals() -> None:
    """Figures of statsmodels' proportion_confint(method="wilson")."""
    made = evaluate.wilson(8, 10)
    assert (made["low"], made["high"]) == (pytest.approx(0.490162, abs=1e-5), pytest.approx(0.943318, abs=1e-5))
    sure = evaluate.wilson(10, 10)
    assert (sure["low"], sure["high"]) == (pytest.approx(0.722467, abs=1e-5), pytest.approx(1.0))
    assert evaluate.wilson(0, 0)["share"] is None


def attention(model: NeedleLM, ids: Any, number: int) -> Any:
    """What the heads of a layer read: ``(B, H, S, S)``."""
    shape, hidden = model.shape, model.words(ids)
    rotation = model._rotation(torch.arange(ids.shape[1]), hidden.dtype)
    for layer in model.layers[:number]:
        hidden = layer(hidden, rotation, None)
    layer = model.layers[number]
    mixed = layer.qkv(layer.attention_norm(hidden)).unflatten(-1, (-1, shape.head)).transpose(1, 2)
    turned = mixed * rotation[0] + torch.cat([-mixed.chunk(2, -1)[1], mixed.chunk(2, -1)[0]], -1) * rotation[1]
    keys = turned[:, shape.heads : shape.heads + shape.key_value_heads]
    keys = keys.repeat_interleave(shape.heads // shape.key_value_heads, 1)
    scores = turned[:, : shape.heads] @ keys.transpose(-1, -2) / shape.head**0.5
    hidden_from = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden_from, -torch.inf).softmax(-1)


def test_training_begins_with_heads_that_look_back_and_heads_that_look_up() -> None:
    torch.manual_seed(0)
    begun = NeedleLM(FULL.shape, len(VOCABULARY))
    asked = exam(np.random.default_rng(0), 96, 12)
    ids = torch.from_numpy(np.stack([np.concatenate([asked.context, question]) for question in asked.questions]))
    with torch.no_grad():
        back, up = attention(begun, ids, 0), attention(begun, ids, 1)
    for head in range(FULL.shape.heads):
        assert back[:, head].diagonal(-1 - head % 2, 1, 2).mean() > 0.7
    found = up[torch.arange(len(ids)), :, -1, torch.from_numpy(asked.places)]
    assert found.mean() > 0.2  # one of 96 places; most of the rest is on the question itself
    assert (up[..., -1, :-4].argmax(-1) == torch.from_numpy(asked.places)[:, None]).float().mean() > 0.6
