"""Longer windows for models with rotary positions (RoPE), without training: NTK-aware scaling and Self-Extend.

Both adapt a loaded Hugging Face model whose modules turn the halves of a head against each other (Llama, Mistral,
Qwen and their like) and leave it as it is for inputs that it was trained for. They are for passes over a whole text,
without a cache of earlier keys, whose positions count from 0: padding, if any, stands on the right.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

from carrel.errors import InputError, MissingDependencyError

try:
    import torch
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask
except ImportError as error:
    raise MissingDependencyError(package=error.name or "torch", extra="torch", purpose="Adapting a model") from error

if TYPE_CHECKING:
    from torch import Tensor, nn

_numbers = count()
Undo = Callable[[], None]


def scale_ntk(model: nn.Module, *, trained: int | None = None) -> Undo:
    """Stretch slow rotations and keep fast ones, as much as the length of each input needs.

    The base of the rotations grows by s^(d / (d - 2)), s being how many times longer an input is than what the model
    was trained for and d the size of a head: the slowest rotation is interpolated, the fastest stays. Inputs of the
    trained length are read as before.

    Reference: bloc97, "NTK-Aware Scaled RoPE" (2023), as in Zhu et al., LongEmbed, arXiv 2404.12096.

    Parameters
    ----------
    trained : tokens; by default what the model's configuration has as ``max_position_embeddings``.

    Returns
    -------
    A function that takes the scaling away again.

    Raises
    ------
    InputError : the model has no rotary positions, or scaled ones already.
    """
    rotary = _rotary(model)
    own: Tensor = rotary.inv_freq.detach().clone()  # (d / 2,)
    trained = _trained(model, trained)
    pairs = max(1, len(own) - 1)

    def before(module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        places = named["position_ids"] if "position_ids" in named else arguments[1]
        scale = max(1.0, (int(places.max()) + 1) / trained)
        powers = torch.arange(len(own), dtype=torch.float32, device=module.inv_freq.device) / pairs
        module.inv_freq = own.to(module.inv_freq) / scale**powers

    handle = rotary.register_forward_pre_hook(before, with_kwargs=True)

    def undo() -> None:
        handle.remove()
        rotary.inv_freq = own.to(rotary.inv_freq)

    return undo


def self_extend(model: nn.Module, *, group: int, neighbours: int, trained: int | None = None) -> Undo:
    """Let a token attend to near ones as trained, and to far ones by positions that ``group`` of them share.

    Distances below ``neighbours`` stay; a greater one between the places m and n is taken for
    m // group - n // group + neighbours - neighbours // group, which the model has seen. Inputs of the trained length
    are read as before. It costs the attention twice (three times where tokens attend to later ones, too), with all
    its weights in memory.

    Reference: Jin et al., "LLM Maybe LongLM: Self-Extend LLM Context Window Without Tuning", arXiv 2401.01325.

    Parameters
    ----------
    group : how many places share a position. The window becomes (trained - neighbours) * group + neighbours.
    neighbours : the distance, in tokens, from which on positions are shared.
    trained : tokens; by default what the model's configuration has as ``max_position_embeddings``.

    Returns
    -------
    A function that gives the model its own attention back.

    Raises
    ------
    InputError : the model has no rotary positions, scaled ones already, or settings that leave no window.
    """
    rotary, trained = _rotary(model), _trained(model, trained)
    if group < 1 or not 1 <= neighbours < trained:
        raise InputError(f"group is 1 or more and neighbours from 1 to {trained - 1}, not {group} and {neighbours}")

    def attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None,
                  scaling: float | None = None, **named: Any) -> tuple[Tensor, None]:  # fmt: skip
        if key.shape[2] <= trained:
            found: Tensor = sdpa_attention_forward(module, query, key, value, mask, scaling=scaling, **named)[0]
            return found, None
        if query.shape[2] != key.shape[2]:
            raise InputError("Self-Extend reads a whole text in one pass: call the model with use_cache=False")
        causal = named.get("is_causal")
        causal = bool(getattr(module, "is_causal", True)) if causal is None else bool(causal)
        logits = extended_logits(query, key, rotary, group, neighbours, both_ways=not causal or mask is not None)
        logits = logits * (query.shape[-1] ** -0.5 if scaling is None else scaling)  # (B, H, T, T)
        shares = torch.softmax(_masked(logits, mask, causal).float(), dim=-1).to(query.dtype)
        repeats = query.shape[1] // value.shape[1]
        return (shares @ value.repeat_interleave(repeats, dim=1)).transpose(1, 2).contiguous(), None  # (B, T, H, D)

    settings: Any = model.config
    before = settings._attn_implementation
    name = f"carrel_self_extend_{next(_numbers)}"
    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, sdpa_mask)
    adapted: Any = model
    adapted.set_attn_implementation(name)

    def undo() -> None:
        adapted.set_attn_implementation(before)

    return undo


def extended_logits(
    query: Tensor, key: Tensor, rotary: nn.Module, group: int, neighbours: int, *, both_ways: bool
) -> Tensor:
    """(B, H, T, T): products of queries and keys, near ones as they are, far ones turned to shared positions.

    Parameters
    ----------
    query, key : (B, H, T, D) and (B, Hkv, T, D), turned by their places already; rotations add up, so they are turned
        on by the difference.
    both_ways : tokens may attend to later ones, too.
    """
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    places = torch.arange(query.shape[2], device=query.device)
    shared, shift = places // group, neighbours - neighbours // group
    distances = places[:, None] - places[None, :]  # (T, T)
    logits = query @ key.transpose(2, 3)
    far_key = _turned(key, shared - places, rotary).transpose(2, 3)
    before = _turned(query, shared + shift - places, rotary) @ far_key
    logits = torch.where(distances >= neighbours, before, logits)
    if both_ways:
        after = _turned(query, shared - shift - places, rotary) @ far_key
        logits = torch.where(distances <= -neighbours, after, logits)
    return logits


def _turned(states: Tensor, by: Tensor, rotary: Any) -> Tensor:
    """States (B, H, T, D) turned on by so many places each (T,)."""
    angles = torch.outer(by.float(), rotary.inv_freq.to(states.device).float())  # (T, D / 2)
    cosines, sines = (torch.cat([part, part], dim=-1).to(states.dtype) for part in (angles.cos(), angles.sin()))
    first, second = states.chunk(2, dim=-1)
    return states * cosines + torch.cat([-second, first], dim=-1) * sines


def _masked(logits: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    lowest = torch.finfo(logits.dtype).min
    if mask is None:
        if not causal:
            return logits
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
    if mask.dtype == torch.bool:
        return logits.masked_fill(~mask, lowest)
    return logits + mask


def _rotary(model: nn.Module) -> Any:
    """The module that makes the rotations of a model, all of them the same."""
    found = [module for name, module in model.named_modules() if name.split(".")[-1] == "rotary_emb"]
    if len(found) != 1 or not hasattr(found[0], "inv_freq"):
        raise InputError(
            f"{type(model).__name__} has {len(found)} modules that make rotary positions; one is adapted, which all"
            " layers share"
        )
    kind = getattr(found[0], "rope_type", "default")
    if kind != "default":
        raise InputError(f"the rotary positions of {type(model).__name__} are scaled already ({kind})")
    return found[0]


def _trained(model: nn.Module, trained: int | None) -> int:
    length = int(getattr(model.config, "max_position_embeddings", 0)) if trained is None else trained
    if length < 2:
        raise InputError("say how many tokens the model was trained for, two at least: trained=")
    return length
