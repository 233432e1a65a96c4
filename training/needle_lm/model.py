"""The model as it is trained: Llama's computation, with the projections that read the same input in one matrix.

Grouped-query attention (Ainslie et al., arXiv 2305.13245), rotary positions (Su et al., arXiv 2104.09864), RMSNorm,
SiLU-gated layers, as LlamaForCausalLM of transformers computes them. The table of words is also the output layer:
what attention copies is then the answer without a map to be learnt for each word.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.needle_lm.config import Shape

_SHARED = 0.125  # at the beginning: what of a word's square norm is in the dimension that all words share
_NEARNESS = 8.0  # how sharply the first layer attends to its distance
_LIKENESS = 2.0  # how sharply the second attends to what is alike
_LOUDNESS = 3.0  # how strongly it says what it has read


class Norm(nn.Module):
    """Root mean square over the last axis (Zhang and Sennrich, arXiv 1910.07467)."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        return self.weight * (hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + self.epsilon))


class Layer(nn.Module):
    """Attention, then the gated layer, each added to what it reads."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.heads * shape.head
        self.attention_norm = Norm(shape.hidden, shape.norm_epsilon)
        self.qkv = nn.Linear(shape.hidden, width + 2 * shape.key_value_heads * shape.head, bias=False)
        self.out = nn.Linear(width, shape.hidden, bias=False)
        self.inner_norm = Norm(shape.hidden, shape.norm_epsilon)
        self.gate_up = nn.Linear(shape.hidden, 2 * shape.inner, bias=False)
        self.down = nn.Linear(shape.inner, shape.hidden, bias=False)

    def forward(self, hidden: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        hidden = hidden + self.out(self._attended(self.attention_norm(hidden), rotation, mask))
        gate, up = self.gate_up(self.inner_norm(hidden)).chunk(2, dim=-1)  # (B, S, I) each
        return hidden + self.down(functional.silu(gate) * up)

    def _attended(self, hidden: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        rows, length, _ = hidden.shape
        heads, groups, size = self.shape.heads, self.shape.key_value_heads, self.shape.head
        mixed = self.qkv(hidden).view(rows, length, heads + 2 * groups, size).transpose(1, 2)  # (B, H + 2 Hkv, S, D)
        cos, sin = rotation
        turned, values = mixed[:, : heads + groups], mixed[:, heads + groups :]
        turned = turned * cos + _half_turned(turned) * sin
        keys = turned[:, heads:].repeat_interleave(heads // groups, dim=1)  # (B, H, S, D)
        values = values.repeat_interleave(heads // groups, dim=1)
        out = functional.scaled_dot_product_attention(
            turned[:, :heads], keys, values, attn_mask=mask, is_causal=mask is None
        )
        return out.transpose(1, 2).reshape(rows, length, heads * size)


class NeedleLM(nn.Module):
    """Token ids ``(B, S)`` to the last layer's states ``(B, S, C)``; :meth:`logits` makes words of those."""

    def __init__(self, shape: Shape, words: int) -> None:
        super().__init__()
        self.shape = shape
        self.words = nn.Embedding(words, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden, shape.norm_epsilon)
        self._begin()

    def _begin(self) -> None:
        """Random weights of the size that keeps states at theirs; what writes to the residual is smaller."""
        for name, value in self.named_parameters():
            if value.ndim == 2:
                writes = name.endswith(("out.weight", "down.weight"))
                scale = 0.3 / math.sqrt(2 * self.shape.layers) if writes else 1.0
                nn.init.normal_(value, std=scale / math.sqrt(value.shape[1]))
        with torch.no_grad():
            self._begin_looking_back()
            if len(self.layers) > 1:
                self._begin_looking_up()

    def _begin_looking_back(self) -> None:
        """The heads of the first layer begin by reading the words one and two places back.

        Words have the first half of the states to themselves, and one last dimension that is the same for all: what
        the heads attend by, through the fast rotations, is that dimension and so the distance alone. What they read
        goes to the other half. From random weights such heads come late, and nothing is looked up before (Olsson et
        al., arXiv 2209.11895); beginning near what is to be learnt is as in Trockman and Kolter, arXiv 2305.09828.
        """
        shape, half, first = self.shape, self.shape.hidden // 2, self.layers[0]
        nn.init.normal_(self.words.weight, std=half**-0.5)
        self.words.weight[:, half:] = 0
        self.words.weight[:, -1] = math.sqrt(_SHARED / (1 - _SHARED))
        speeds = self._speeds()
        fast = (speeds > 0.02).float() * math.sqrt(_NEARNESS * math.sqrt(shape.head) / (_SHARED * shape.hidden))
        keys = shape.key_value_heads * shape.head
        query, key, value = first.qkv.weight.split([shape.heads * shape.head, keys, keys])
        query.mul_(0.03), key.mul_(0.03)
        value[:, half:] = 0
        key[:, -1] = torch.cat([fast, torch.zeros_like(fast)]).repeat(shape.key_value_heads)
        for head in range(shape.heads):
            back = (1 + head % 2) * speeds
            query[head * shape.head : (head + 1) * shape.head, -1] = torch.cat([fast * back.cos(), -fast * back.sin()])
        nn.init.normal_(first.out.weight, std=0.25 / math.sqrt(shape.head))
        first.out.weight[:half] = 0

    def _begin_looking_up(self) -> None:
        """The heads of the second layer begin by reading words that the same two words stand before.

        Queries and keys are made alike, of what the first layer has read and through the slow rotations; what is
        read goes out as the word it came in as.
        """
        shape, half, second = self.shape, self.shape.hidden // 2, self.layers[1]
        group = shape.heads // shape.key_value_heads
        slow = (self._speeds() < 2 / shape.window).float().repeat(2)
        keys = shape.key_value_heads * shape.head
        query, key, value = second.qkv.weight.split([shape.heads * shape.head, keys, keys])
        nn.init.normal_(key, std=_LIKENESS * half**-0.5)
        key[:, :half] = key[:, -1] = 0
        key.mul_(slow.repeat(shape.key_value_heads)[:, None])
        nn.init.normal_(value, std=half**-0.5)
        value[:, half:] = 0
        for head in range(shape.heads):
            rows, own = slice(head * shape.head, (head + 1) * shape.head), head // group
            shared = slice(own * shape.head, (own + 1) * shape.head)
            query[rows] = key[shared]
            second.out.weight[:, rows] = _LOUDNESS * value[shared].T / group

    def _speeds(self) -> Tensor:
        """``(D / 2,)``: how far each pair of dimensions turns from one position to the next."""
        return 1.0 / self.shape.rope_theta ** (torch.arange(0, self.shape.head, 2).float() / self.shape.head)

    def forward(self, ids: Tensor, positions: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """States of all tokens.

        Parameters
        ----------
        ids
            ``(B, S)``.
        positions
            ``(S,)``, for tokens that do not stand one after the other; 0, 1, 2... without it.
        mask
            ``(S, S)``, True where the token of the row may read that of the column; causal without it.
        """
        hidden = self.words(ids)  # (B, S, C)
        rotation = self._rotation(torch.arange(ids.shape[1]) if positions is None else positions, hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden, rotation, mask)
        return self.norm(hidden)

    def logits(self, states: Tensor) -> Tensor:
        """``(..., C)`` to ``(..., words)``."""
        return functional.linear(states, self.words.weight)

    def _rotation(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine ``(S, D)`` of the angle of each position in each dimension."""
        angles = positions.float()[:, None] * self._speeds()  # (S, D / 2)
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos().to(dtype), angles.sin().to(dtype)


def _half_turned(states: Tensor) -> Tensor:
    """The second half of the last axis, negated, before the first: a quarter turn of each pair of dimensions."""
    first, second = states.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


def parameters(model: nn.Module) -> int:
    """How many weights there are."""
    return sum(value.numel() for value in model.parameters())
