"""What cannot take an adapter is refused before anything is learnt, with the names that a recipe may have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM  # noqa: E402

from carrel.errors import ModelError  # noqa: E402
from carrel.memory.parametric.examples import Example  # noqa: E402
from carrel.memory.parametric.recipes import PARAMETRIC_RAG  # noqa: E402
from carrel.memory.parametric.training import train  # noqa: E402

pytestmark = pytest.mark.extras
RECIPE = replace(PARAMETRIC_RAG, rank=2, steps=2, epochs=1, batch=2)
OWN = [Example((1, 5, 6, 7), 3), Example((1, 8, 9, 10), 3)]


def llama() -> Any:
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    )


def refused(model: Any, recipe: Any, match: str) -> None:
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    modules = [name for name, _ in model.named_modules()]
    with pytest.raises(ModelError, match=match):
        train(model, OWN, recipe)
    assert modules == [name for name, _ in model.named_modules()]  # as it was
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_layers_of_other_names() -> None:
    refused(llama(), replace(RECIPE, targets=("fc1", "fc2")), "no layers named fc1, fc2.*are down_proj, gate")
    refused(llama(), replace(RECIPE, targets=("up_proj", "fc2")), "no layers named fc2.*replace.recipe")


def test_layers_that_are_not_linear() -> None:
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32))
    refused(gpt2, replace(RECIPE, targets=("c_fc",)), "c_fc of the type Conv1D is no linear layer")
    refused(llama(), replace(RECIPE, targets=("up_proj", "embed_tokens")), "embed_tokens of the type Embedding")


def test_a_model_with_an_adapter_of_its_own_keeps_it() -> None:
    config = peft.LoraConfig(r=2, target_modules=["q_proj"])
    model = peft.get_peft_model(llama(), config)
    refused(model, RECIPE, "an adapter of its own")
    refused(model.get_base_model(), RECIPE, r"merge_and_unload\(\)")
    assert train(model.merge_and_unload(), OWN, RECIPE).tensors
