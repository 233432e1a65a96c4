"""Folders of tiny encoders, made here: BERTs of random weights, as sentence-transformers saves them and as graphs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from carrel.tokens import model_folder

WIDTH = 32
WINDOW = 64


def put(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def declare(
    folder: Path,
    pooling: str = "mean",
    *,
    prompts: Mapping[str, str] | None = None,
    window: int = WINDOW,
    include_prompt: bool = True,
    dense: str | None = None,
    width: int = WIDTH,
    seed: int = 1,
) -> Path:
    """Write what a model's folder says of it, and its tokenizer (that of the shipped embedder).

    Parameters
    ----------
    dense : the activation of a layer after pooling; None for no such layer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kinds = ["Transformer", "Pooling", *(["Dense"] if dense else []), "Normalize"]
    rows = [
        {"idx": place, "name": str(place), "path": f"{place}_{kind}" if place else "",
         "type": f"sentence_transformers.models.{kind}"}
        for place, kind in enumerate(kinds)
    ]  # fmt: skip
    put(folder / "modules.json", rows)
    for row in rows[1:]:
        (folder / str(row["path"])).mkdir(exist_ok=True)
    modes = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens", "lasttoken": "lasttoken"}
    flags = {f"pooling_mode_{name}": mode == pooling for mode, name in modes.items()}
    flags["pooling_mode_mean_sqrt_len_tokens"] = pooling == "mean_sqrt_len_tokens"
    flags["pooling_mode_weightedmean_tokens"] = pooling == "weightedmean"
    config = {"word_embedding_dimension": width, "include_prompt": include_prompt, **flags}
    put(folder / "1_Pooling" / "config.json", config)
    put(folder / "sentence_bert_config.json", {"max_seq_length": window, "do_lower_case": False})
    put(folder / "config_sentence_transformers.json", {"prompts": dict(prompts or {}), "default_prompt_name": None})
    if dense:
        _put_dense(folder / "2_Dense", dense, width, seed)
    shutil.copy(model_folder("minilm") / "tokenizer.json", folder)
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    told = {"tokenizer_class": "BertTokenizer", "model_max_length": 512, "do_lower_case": True}
    put(folder / "tokenizer_config.json", {**told, **names})
    return folder


def _put_dense(folder: Path, activation: str, width: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    weight = chance.standard_normal((width // 2, width)).astype(np.float32)
    bias = chance.standard_normal(width // 2).astype(np.float32)
    name = f"torch.nn.modules.{'linear' if activation == 'Identity' else 'activation'}.{activation}"
    put(folder / "config.json", {"in_features": width, "out_features": width // 2, "bias": True,
                                 "activation_function": name})  # fmt: skip
    put_safetensors(folder / "model.safetensors", {"linear.weight": weight, "linear.bias": bias})


def put_safetensors(file: Path, tensors: Mapping[str, np.ndarray], kind: str = "F32") -> None:
    """The safetensors format, written by hand: its reader is tested against it."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, tensor in tensors.items():
        data = tensor.tobytes()
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + body)


def make_bert(folder: Path, seed: int = 0, *, layers: int = 2, width: int = WIDTH, heads: int = 2) -> Path:
    """Add a BERT of random weights, large enough for vectors to differ. Needs torch and transformers."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=30_522, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=2 * width, max_position_embeddings=512,
    )  # fmt: skip
    model = transformers.BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.normal_(std=0.3)
    model.save_pretrained(folder)
    return folder
