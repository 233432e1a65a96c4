"""MiniLM in torch: token states, and the vectors of texts, questions and chunks in their windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from insent_data import Ids, Window
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import BertConfig, BertModel

from carrel.embeddings.minilm import CLS, SEP

TOGETHER = 8  # texts of one pass: they are alike in length
SIZES = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}


def model_of(weights: dict[str, np.ndarray]) -> nn.Module:
    """The encoder with these weights, by BERT's names; its tables of words and segments do not learn."""
    words, hidden = weights["embeddings.word_embeddings.weight"].shape
    sizes = {**SIZES, "vocab_size": words, "hidden_size": hidden}
    layers = {int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer.")}
    sizes["num_hidden_layers"] = len(layers)
    sizes["intermediate_size"] = weights["encoder.layer.0.intermediate.dense.weight"].shape[0]
    config = BertConfig(
        **sizes,
        max_position_embeddings=len(weights["embeddings.position_embeddings.weight"]),
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
    )
    model = BertModel(config, add_pooling_layer=False)
    known = model.state_dict()
    model.load_state_dict({name: torch.from_numpy(np.array(weights[name], np.float32)) for name in known})
    for table in (model.embeddings.word_embeddings, model.embeddings.token_type_embeddings):
        table.weight.requires_grad_(False)
    return model


def states(model: nn.Module, rows: Sequence[Ids], together: int = TOGETHER) -> list[Tensor]:
    """Of each text the states (T + 2, D), float32, of one pass over it; bfloat16 inside."""
    out: dict[int, Tensor] = {}
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    for start in range(0, len(order), together):
        part = order[start : start + together]
        texts = [torch.tensor([CLS, *rows[index], SEP]) for index in part]
        ids = pad_sequence(texts, batch_first=True)  # (B, T)
        lengths = torch.tensor([len(text) for text in texts])
        mask = (torch.arange(ids.shape[1])[None, :] < lengths[:, None]).long()
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, T, D)
        for row, index in enumerate(part):
            out[index] = hidden[row, : len(texts[row])].float()
    return [out[index] for index in range(len(rows))]


def alone(model: nn.Module, rows: Sequence[Ids], together: int = TOGETHER) -> Tensor:
    """(N, D), unit length: texts by themselves, the mean of all states."""
    means = torch.stack([state.mean(0) for state in states(model, rows, together)])
    return functional.normalize(means, dim=-1)


def situated(model: nn.Module, windows: Sequence[Window]) -> Tensor:
    """(C, D), unit length: the chunks of all windows in order, the mean of their own states in the window's pass."""
    read = zip(windows, states(model, [window.ids for window in windows]), strict=True)
    means = [state[1 + low : 1 + high].mean(0) for window, state in read for low, high in window.spans]
    return functional.normalize(torch.stack(means), dim=-1)
