"""Sinks and a window: the first tokens and the last ones."""

from __future__ import annotations

import hashlib
import math
from typing import ClassVar

import torch
from torch import Tensor

from carrel.errors import InputError
from carrel.generation.kv.base import Choice, SparseAttention
from carrel.generation.kv.oracles import rotate

_BLOCK = 256  # queries of a prefill that are attended to together


class LambdaAttention(SparseAttention):
    """Every query reads the first ``sinks`` tokens and the last ``window`` ones, while prefilling too.

    What lies between is out of reach, so that a fact there cannot be found: the cheapest method, and the floor of
    every comparison. With ``cap`` no sink seems farther away than that, which keeps a long sequence within the
    distances the model was trained on.

    Parameters
    ----------
    sinks : tokens at the start. window : tokens up to and with the query's own.
    cap : the largest distance of a sink, at least ``window``; needs ``inverse_frequencies``.
    inverse_frequencies : of the model's rotary embedding, (D / 2,) or fewer, with dimension d paired with
        d + their number (Llama, Mistral, Qwen); the keys are already rotated by them.

    Raises
    ------
    InputError : nothing to read, or a cap that is too small or has no frequencies.
    """

    name: ClassVar[str] = "lambda"
    citation: ClassVar[str] = "StreamingLLM, arXiv 2309.17453; LM-Infinite, arXiv 2308.16137"
    follows_keys: ClassVar[bool] = False

    def __init__(
        self,
        *,
        sinks: int = 4,
        window: int = 1024,
        cap: int | None = None,
        inverse_frequencies: Tensor | None = None,
    ) -> None:
        super().__init__()
        if sinks < 0 or window < 1:
            raise InputError(f"Sinks are 0 or more and the window is 1 or more tokens, not {sinks} and {window}.")
        if cap is not None and (cap < window or inverse_frequencies is None):
            raise InputError("A cap on the distance is at least the window and needs the inverse frequencies.")
        self.sinks, self.window, self.cap = sinks, window, cap
        self.inverse_frequencies = inverse_frequencies

    @property
    def prefill_label(self) -> str:
        cap = ""
        if self.cap is not None and self.inverse_frequencies is not None:
            numbers = self.inverse_frequencies.detach().cpu().float().contiguous().numpy()
            cap = f",cap={self.cap},frequencies={hashlib.sha256(numbers.tobytes()).hexdigest()[:12]}"
        return f"{self.name}:sinks={self.sinks},window={self.window}{cap}"

    def choose(self, layer: int, query: Tensor, key: Tensor, scaling: float) -> list[Choice]:
        batch, kv_heads, length, _ = key.shape
        return [Choice(local_index(length, self.sinks, self.window, key.device).expand(batch, kv_heads, 1, -1))]

    def prefill(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        past = key.shape[2] - query.shape[2]
        blocks = [
            self._block(query[:, :, start : start + _BLOCK], past + start, key, value, scaling)
            for start in range(0, query.shape[2], _BLOCK)
        ]
        return torch.cat(blocks, dim=2)

    def decode(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        return self.prefill(layer, query, key, value, scaling)

    def _block(self, query: Tensor, first: int, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Queries at positions ``first`` and on, over the sinks and the stretch that holds all their windows."""
        batch, heads, queries, dim = query.shape
        kv_heads = key.shape[1]
        sinks, end = min(self.sinks, first + queries), first + queries
        start = max(sinks, first - self.window + 1)
        at = torch.arange(first, end, device=key.device)[:, None]  # (Q, 1)
        head = torch.arange(sinks, device=key.device)
        near = torch.arange(start, end, device=key.device)
        states = query.reshape(batch, kv_heads, -1, dim).float()  # (B, Hkv, G * Q, D), one product for all G
        grouped = (batch, kv_heads, heads // kv_heads, queries, -1)
        far_scores = self._sink_scores(states.view(grouped), at, key[:, :, :sinks].float())
        near_scores = (states @ key[:, :, start:end].float().transpose(2, 3)).view(grouped)
        far_scores = far_scores.masked_fill(head > at, -math.inf)
        near_scores = near_scores.masked_fill((near > at) | (near <= at - self.window), -math.inf)
        weights = (scaling * torch.cat([far_scores, near_scores], dim=-1)).softmax(dim=-1).flatten(2, 3)
        output = weights[..., :sinks] @ value[:, :, :sinks].float()  # (B, Hkv, G * Q, D)
        output += weights[..., sinks:] @ value[:, :, start:end].float()
        return output.reshape(batch, heads, queries, -1).to(query.dtype)

    def _sink_scores(self, states: Tensor, at: Tensor, keys: Tensor) -> Tensor:
        """Dot products of queries (B, Hkv, G, Q, D) with the sinks (B, Hkv, s, D), at capped distances."""
        scores = states @ keys[:, :, None].transpose(-1, -2)  # (B, Hkv, G, Q, s)
        if self.cap is None or self.inverse_frequencies is None or keys.shape[2] == 0:
            return scores
        excess = (at - torch.arange(keys.shape[2], device=at.device) - self.cap).clamp(min=0)  # (Q, s)
        if not bool(excess.any()):
            return scores
        angles = -excess[..., None] * self.inverse_frequencies.to(at.device)  # (Q, s, D / 2)
        turned = rotate(states[..., None, :], angles)  # (B, Hkv, G, Q, s, D)
        return (turned * keys[:, :, None, None]).sum(-1)


def local_index(length: int, sinks: int, window: int, device: torch.device) -> Tensor:
    """Positions of the sinks and of the window in a sequence of ``length`` tokens, ascending, (N,)."""
    head = torch.arange(min(sinks, length), device=device)
    return torch.cat([head, torch.arange(max(sinks, length - window), length, device=device)])
