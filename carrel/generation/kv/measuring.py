"""One method in one context: what is answered right, how fast, and what is really read and held."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from carrel.evaluation.kv_results import Cell
from carrel.generation.kv.context_model import ContextModel
from carrel.generation.kv.contexts import EncodedContext
from carrel.generation.kv.decoding import ends_of
from carrel.generation.kv.lookups import Asked, LookUp, LookUps
from carrel.generation.kv.measured_methods import PROFILED, STREAMING_WINDOW, Method
from carrel.generation.kv.profiles import measure_local_mass

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PROFILES: weakref.WeakKeyDictionary[Any, dict[int, Tensor]] = weakref.WeakKeyDictionary()  # by length
_PROFILE_QUESTIONS, _PROFILE_SEED = 50, 2_502_14866


@contextmanager
def runner_of(model: PreTrainedModel, texts: LookUps, method: Method, look_up: LookUp) -> Iterator[ContextModel]:
    """The model with a method in force, as long as the block runs."""
    streaming = _nearby(model, texts, len(look_up.context)) if method.name == PROFILED else None
    runner = ContextModel(model, policy=method.policy(), attention=method.attention(look_up, streaming))
    try:
        yield runner
    finally:
        runner.close()


def measure(model: PreTrainedModel, texts: LookUps, method: Method, look_up: LookUp) -> Cell:
    """Read the context and ask its questions."""
    with runner_of(model, texts, method, look_up) as runner:
        _wait(runner)
        began = time.perf_counter()
        context, _ = runner.context(look_up.context)
        _wait(runner)
        read_s = time.perf_counter() - began
        held = context.size_bytes
        right, first_ms = [], []
        for asked in look_up.questions:
            reply, waited = _reply(runner, texts, context, asked)
            right.append(texts.is_right(reply, asked.answer))
            first_ms.append(waited)
        keys = _keys_read(runner, context, look_up.questions[:4])
    return Cell(tuple(right), read_s, float(np.median(first_ms)), held, keys)


def _nearby(model: PreTrainedModel, texts: LookUps, length: int) -> Tensor:
    """KV heads with most of their attention nearby, (layers, Hkv), in a text that is measured nowhere else."""
    known = _PROFILES.setdefault(model, {})
    if length not in known:
        look_up = texts.draw(length, _PROFILE_QUESTIONS, (_PROFILE_SEED, length))
        ids = [*look_up.context, *(token for asked in look_up.questions for token in asked.ids)]
        words: Any = model.get_input_embeddings()
        tokens = torch.tensor([ids], device=words.weight.device)
        known[length] = measure_local_mass(model, tokens, sinks=4, window=min(STREAMING_WINDOW, length // 2)) > 0.5
    return known[length]


def _reply(runner: ContextModel, texts: LookUps, context: EncodedContext, asked: Asked) -> tuple[str, float]:
    """The likeliest reply, and the milliseconds to its first token."""
    began = time.perf_counter()
    text = runner.begin(context, asked.ids)
    token = int(runner.logits(text).argmax())
    waited = 1000 * (time.perf_counter() - began)
    ends = ends_of(runner.model, texts.tokenizer)
    tokens: list[int] = []
    reply = ""
    while token not in ends:
        tokens.append(token)
        reply = str(texts.tokenizer.decode(tokens, skip_special_tokens=True))
        if len(tokens) == texts.longest_reply or texts.is_complete(reply):
            break
        text.rest.append(token)
        token = int(runner.logits(text).argmax())
    return reply, waited


def _wait(runner: ContextModel) -> None:
    if runner.device.type == "cuda":
        torch.cuda.synchronize(runner.device)


# -- what is really read and held ------------------------------------------------------------------


def _keys_read(runner: ContextModel, context: EncodedContext, questions: Sequence[Asked]) -> float:
    """The share of the context's keys that the last token of a question reads, over all layers and KV heads."""
    length = len(context.ids)
    method = context.attention
    if method is None:
        heads = kv_head_count(runner.model)
        return (context.kept * heads - context.hidden) / (length * heads)
    shares: list[float] = []
    attend = method.attend

    def counting(layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float | None = None) -> Tensor:
        output = attend(layer, query, key, value, scaling=scaling)
        choices = method.choose(layer, query[:, :, -1:], key, scaling or query.shape[-1] ** -0.5)
        for choice in choices:  # index (1, h, g, N)
            heads = choice.index.shape[1] if choice.heads is None else len(choice.heads)
            share = float((choice.index < length).sum(-1).float().mean()) / length
            shares.append(share * heads / key.shape[1])
        return output

    method.attend = counting  # type: ignore[method-assign]
    try:
        for asked in questions:
            runner.logits(runner.begin(context, asked.ids))
    finally:
        del method.attend
    return sum(shares) / (len(questions) * layer_count(runner.model))


def layer_count(model: PreTrainedModel) -> int:
    """Layers of the model."""
    return int(model.config.get_text_config(decoder=True).num_hidden_layers)


def kv_head_count(model: PreTrainedModel) -> int:
    """Of all layers together."""
    config = model.config.get_text_config(decoder=True)
    return layer_count(model) * int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
