"""A tiny model in a folder with a tokenizer, contexts for it, and what a press leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import DynamicCache

from carrel.generation.kv.press_scopes import kvpress_package
from carrel.generation.kv.presses import HeadPatterns, Press, make_press

LENGTH = 160
PATTERNS = HeadPatterns(np.array([[0.9, 0.1], [0.3, 0.6]]), sinks=4, recent=16)
CURVES = np.tile(np.linspace(0.01, 0.99, 99)[:, None, None], (1, 2, 2))
LOCAL: dict[str, dict[str, Any]] = {"duo_attention": {"patterns": PATTERNS}, "lukv": {"curves": CURVES}}
SIZES = {
    "vocab_size": 65, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 4096, "initializer_range": 0.2, "pad_token_id": 0,
}  # fmt: skip


def tiny(kind: str = "Llama", folder: Path | None = None, **options: Any) -> Any:
    """A random model; in a folder, with a tokenizer of single characters beside it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForCausalLM")(
        getattr(transformers, f"{kind}Config")(**{**SIZES, **options})
    ).eval()
    if folder is not None:
        inner = Tokenizer(models.WordLevel({"[UNK]": 64} | {chr(33 + i): i for i in range(64)}, unk_token="[UNK]"))
        inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]").save_pretrained(folder)
        model.config._name_or_path = str(folder)
    return model


def tokens(length: int, seed: int = 1) -> Any:
    return torch.randint(0, 64, (1, length), generator=torch.Generator().manual_seed(seed))


def read(model: Any, policy: Any, ids: Any, *, head: bool = True) -> Any:
    """Read a context as the generator does; the cache."""
    cache = DynamicCache()
    with torch.inference_mode(), policy.reading(model):
        if head:
            positions = torch.arange(ids.shape[1])[None]
            model(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
        else:
            model.base_model(input_ids=ids, past_key_values=cache, use_cache=True)
    return cache


def ask(model: Any, cache: Any, question: Any, at: int, *, one_by_one: bool = False) -> Any:
    """The logits of a question whose first token has position ``at``, (Q, V)."""
    pieces = question.split(1, dim=1) if one_by_one else (question,)
    logits = []
    with torch.inference_mode():
        for piece in pieces:
            positions = torch.arange(at, at + piece.shape[1])[None]
            logits.append(model(piece, past_key_values=cache, position_ids=positions, use_cache=True).logits[0])
            at += piece.shape[1]
    return torch.cat(logits)


def traces(model: Any) -> dict[str, Any]:
    """All names and hooks on all modules, and the settings that a press may change."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        hooks = len(module._forward_hooks) + len(module._forward_pre_hooks)
        found[name] = (sorted(vars(module)), sorted(module._modules), hooks)
    found["attention"] = model.config._attn_implementation
    found["trainable"] = [parameter.requires_grad for parameter in model.parameters()]
    return found


CONTEXT, QUESTION = tokens(LENGTH), tokens(9, seed=2)


def press(name: str, keep: float = 0.25, **options: Any) -> Press:
    return make_press(name, keep, **{**LOCAL.get(name, {}), **options})


def lengths(cache: Any) -> list[int]:
    return [int(layer.keys.shape[2]) for layer in cache.layers]


def answered(model: Any, policy: Any, cache: Any, **options: Any) -> Any:
    with policy.asking(model, policy.state(model)):
        return ask(model, cache, QUESTION, LENGTH, **options)


def drop_masks(model: Any) -> None:
    """Take off what kvpress itself left on a model."""
    for layer in model.model.layers:
        vars(layer.self_attn).pop("masked_key_indices", None)


def of_kvpress(name: str, keep: float) -> Any:
    """A press of kvpress, written down by hand."""
    kvpress, gone = kvpress_package(), 1 - keep
    snapkv = kvpress.SnapKVPress(compression_ratio=gone)
    knorm = kvpress.KnormPress(compression_ratio=gone)
    expected = kvpress.ExpectedAttentionPress(compression_ratio=gone, use_vnorm=False)
    duo = kvpress.DuoAttentionPress(head_compression_ratio=gone)
    duo.load_attention_pattern = lambda model: (PATTERNS.sinks, PATTERNS.recent, PATTERNS.scores)
    made = {
        "snapkv": lambda: snapkv,
        "expected_attention": lambda: kvpress.ExpectedAttentionPress(compression_ratio=gone),
        "knorm": lambda: knorm,
        "keydiff": lambda: kvpress.KeyDiffPress(compression_ratio=gone),
        "tova": lambda: kvpress.TOVAPress(compression_ratio=gone),
        "streaming_llm": lambda: kvpress.StreamingLLMPress(compression_ratio=gone),
        "lagkv": lambda: kvpress.LagKVPress(compression_ratio=gone),
        "cur": lambda: kvpress.CURPress(compression_ratio=gone),
        "cap": lambda: kvpress.CapPress(compression_ratio=gone),
        "think": lambda: kvpress.ThinKPress(key_channel_compression_ratio=gone),
        "criticalkv_expected_attention": lambda: kvpress.CriticalKVPress(expected),
        "chunkkv": lambda: kvpress.ChunkKVPress(snapkv),
        "block": lambda: kvpress.BlockPress(kvpress.KeyDiffPress(compression_ratio=gone)),
        "chunk_knorm": lambda: kvpress.ChunkPress(knorm),
        "merging": lambda: kvpress.MergingPress(snapkv),
        "adakv": lambda: kvpress.AdaKVPress(snapkv),
        "adakv_knorm": lambda: kvpress.AdaKVPress(knorm),
        "critical_adakv": lambda: kvpress.CriticalAdaKVPress(snapkv),
        "kvzip": lambda: kvpress.KVzipPress(compression_ratio=gone),
        "kvzip_plus": lambda: kvpress.KVzipPress(compression_ratio=gone, kvzip_plus_normalization=True),
        "kvgrad": lambda: kvpress.KVgradPress(compression_ratio=gone),
        "duo_attention": lambda: duo,
    }
    return made[name]()
