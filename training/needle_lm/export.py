"""The model as a folder that transformers, vLLM and kvpress load: LlamaForCausalLM's names, its configuration, and
the tokenizer with its chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from training.needle_lm.config import Shape
from training.needle_lm.language import BEGIN, END, PAD, VOCABULARY, tokenizer_config, tokenizer_json, words
from training.needle_lm.model import NeedleLM

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
"""What weights may be stored as, in the order of preference."""
FILES = (
    "config.json", "generation_config.json", "language.json", "model.safetensors", "tokenizer.json",
    "tokenizer_config.json",
)  # fmt: skip


def folder_files(model: NeedleLM, dtype: str) -> dict[str, bytes]:
    """Every file of the model's folder but those that tell of it: names to contents."""
    weights = {name: value.to(DTYPES[dtype]).contiguous() for name, value in named_as_llama(model).items()}
    contents = {
        "config.json": llama_config(model.shape, dtype),
        "generation_config.json": {"bos_token_id": BEGIN, "eos_token_id": END, "pad_token_id": PAD},
        "language.json": words(),
        "tokenizer_config.json": tokenizer_config(model.shape.window),
    }
    files = {name: (json.dumps(content, indent=1) + "\n").encode() for name, content in contents.items()}
    files["tokenizer.json"] = tokenizer_json().encode()
    files["model.safetensors"] = save(weights, metadata={"format": "pt"})
    return files


def llama_config(shape: Shape, dtype: str) -> dict[str, Any]:
    """config.json, with the base of the rotations where old and new versions look for it."""
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": len(VOCABULARY),
        "hidden_size": shape.hidden, "intermediate_size": shape.inner, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.key_value_heads, "head_dim": shape.head,
        "max_position_embeddings": shape.window, "rms_norm_eps": shape.norm_epsilon, "rope_theta": shape.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta}, "hidden_act": "silu",
        "attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0, "tie_word_embeddings": True,
        "bos_token_id": BEGIN, "eos_token_id": END, "pad_token_id": PAD, "initializer_range": 0.02, "use_cache": True,
        "dtype": dtype,
    }  # fmt: skip


def named_as_llama(model: NeedleLM) -> dict[str, Tensor]:
    """The weights under LlamaForCausalLM's names; the output layer is the table of words and has none of its own."""
    shape = model.shape
    keys = shape.key_value_heads * shape.head
    state = {name: value.detach() for name, value in model.state_dict().items()}
    named = {"model.embed_tokens.weight": state["words.weight"], "model.norm.weight": state["norm.weight"]}
    for number in range(shape.layers):
        ours, theirs = f"layers.{number}", f"model.layers.{number}"
        query, key, value = state[f"{ours}.qkv.weight"].split([shape.heads * shape.head, keys, keys])
        gate, up = state[f"{ours}.gate_up.weight"].chunk(2)
        parts = {
            "self_attn.q_proj": query, "self_attn.k_proj": key, "self_attn.v_proj": value,
            "self_attn.o_proj": state[f"{ours}.out.weight"], "mlp.gate_proj": gate, "mlp.up_proj": up,
            "mlp.down_proj": state[f"{ours}.down.weight"], "input_layernorm": state[f"{ours}.attention_norm.weight"],
            "post_attention_layernorm": state[f"{ours}.inner_norm.weight"],
        }  # fmt: skip
        named.update({f"{theirs}.{name}.weight": part for name, part in parts.items()})
    return named


def rounded(model: NeedleLM, dtype: str) -> NeedleLM:
    """A copy that computes in float32 with the weights as ``dtype`` stores them."""
    copy = NeedleLM(model.shape, len(VOCABULARY))
    copy.load_state_dict({name: value.to(DTYPES[dtype]).float() for name, value in model.state_dict().items()})
    return copy.eval()


def load(folder: Path) -> NeedleLM:
    """The model of an exported folder, in float32."""
    known = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shape = Shape(
        layers=known["num_hidden_layers"], hidden=known["hidden_size"], heads=known["num_attention_heads"],
        key_value_heads=known["num_key_value_heads"], head=known["head_dim"], inner=known["intermediate_size"],
        rope_theta=known["rope_theta"], norm_epsilon=known["rms_norm_eps"], window=known["max_position_embeddings"],
    )  # fmt: skip
    stored = {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
    model = NeedleLM(shape, known["vocab_size"])
    state = {"words.weight": stored["model.embed_tokens.weight"], "norm.weight": stored["model.norm.weight"]}
    for number in range(shape.layers):
        ours, theirs = f"layers.{number}", f"model.layers.{number}"
        state[f"{ours}.qkv.weight"] = torch.cat([stored[f"{theirs}.self_attn.{part}_proj.weight"] for part in "qkv"])
        state[f"{ours}.gate_up.weight"] = torch.cat(
            [stored[f"{theirs}.mlp.{part}_proj.weight"] for part in ("gate", "up")]
        )
        for name, part in {
            "out": "self_attn.o_proj", "down": "mlp.down_proj", "attention_norm": "input_layernorm",
            "inner_norm": "post_attention_layernorm",
        }.items():  # fmt: skip
            state[f"{ours}.{name}.weight"] = stored[f"{theirs}.{part}.weight"]
    model.load_state_dict(state)
    return model.eval()
