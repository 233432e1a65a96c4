"""The reader in torch: MiniLM as a cross-encoder with its heads, on windows laid end to end without padding."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

LAYERS, HEADS, HIDDEN, INNER = 6, 12, 384, 1536
EPSILON = 1e-12
WINDOW_HEADS = ("relevance", "answerable")
TOKEN_HEADS = ("keep", "start", "end")


class Dropout(nn.Module):
    """Dropout whose mask is a random cut from a fixed pool of bits: drawing them anew costs a seventh of a step."""

    def __init__(self, share: float, size: int = 1 << 24) -> None:
        super().__init__()
        self.share, self.size = share, size
        self.pool: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.share == 0:
            return x
        pool = self.fill(x.dtype) if self.pool is None else self.pool
        offset = int(torch.randint(self.size, ()))
        return x * pool[offset : offset + x.numel()].view_as(x)

    def fill(self, dtype: torch.dtype) -> Tensor:
        """Draw the pool: the first thing that training draws, so that a run that goes on has the same one."""
        self.pool = (torch.rand(2 * self.size) >= self.share).to(dtype) / (1 - self.share)
        return self.pool


class Layer(nn.Module):
    """One post-norm transformer layer."""

    def __init__(self, dropout: Dropout) -> None:
        super().__init__()
        self.qkv = nn.Linear(HIDDEN, 3 * HIDDEN)
        self.attended = nn.Linear(HIDDEN, HIDDEN)
        self.attended_norm = nn.LayerNorm(HIDDEN, EPSILON)
        self.widen = nn.Linear(HIDDEN, INNER)
        self.narrow = nn.Linear(INNER, HIDDEN)
        self.norm = nn.LayerNorm(HIDDEN, EPSILON)
        self.dropout = dropout

    def forward(self, x: Tensor, places: Tensor, bias: Tensor) -> Tensor:
        """Of x (N, D), the same shape; places (N,): where each token stands among B * T padded ones; bias (B, 1, 1, T).

        Attention is written out: on the CPU its gradient in bfloat16 takes a third of the fused one's time.
        """
        batch, width = bias.shape[0], bias.shape[3]
        qkv = self.qkv(x)  # (N, 3 * D)
        padded = qkv.new_zeros(batch * width, 3 * HIDDEN).index_copy(0, places, qkv)
        q, k, v = padded.view(batch, width, 3, HEADS, HIDDEN // HEADS).permute(2, 0, 3, 1, 4)  # (B, nh, T, hs) each
        scores = (q * (HIDDEN // HEADS) ** -0.5) @ k.transpose(-1, -2) + bias.to(q.dtype)  # (B, nh, T, T)
        y = torch.softmax(scores, dim=-1, dtype=q.dtype) @ v
        y = y.transpose(1, 2).reshape(batch * width, HIDDEN).index_select(0, places)  # (N, D)
        x = self.attended_norm(x + self.dropout(self.attended(y)))
        return self.norm(x + self.dropout(self.narrow(functional.gelu(self.widen(x)))))


class Reader(nn.Module):
    """Relevance and answerability from the first token; keep, start and end from every token."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.words = nn.Embedding(30522, HIDDEN)
        self.positions = nn.Embedding(512, HIDDEN)
        self.types = nn.Embedding(2, HIDDEN)
        self.norm = nn.LayerNorm(HIDDEN, EPSILON)
        self.dropout = Dropout(dropout)  # one pool for all
        self.layers = nn.ModuleList(Layer(self.dropout) for _ in range(LAYERS))
        self.window_head = nn.Linear(HIDDEN, len(WINDOW_HEADS))
        self.token_head = nn.Linear(HIDDEN, len(TOKEN_HEADS))
        for head in (self.window_head, self.token_head):
            nn.init.normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)

    def forward(self, ids: Tensor, types: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """ids, types (N,), lengths (B,) -> window logits (B, 2), token logits (N, 3), both float32."""
        width = int(lengths.max())
        column = torch.arange(width)
        mask = column[None, :] < lengths[:, None]  # (B, T)
        places = mask.flatten().nonzero().squeeze(1)  # (N,)
        position = places % width
        x = self.norm(self.words(ids) + self.positions(position) + self.types(types))
        if torch.is_autocast_enabled("cpu"):
            x = x.to(torch.bfloat16)
        x = self.dropout(x)
        bias = torch.where(mask, 0.0, -1e4)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, places, bias)
        first = lengths.cumsum(0) - lengths
        with torch.autocast("cpu", enabled=False):
            x = x.float()
            return self.window_head(x[first]), self.token_head(x)


def from_embedder(weights: dict[str, np.ndarray], dropout: float) -> Reader:
    """A reader with the embedder's weights (those of BERT, by its names) and new heads."""
    reader = Reader(dropout)
    state = {name: value for name, value in reader.state_dict().items() if "_head." in name}
    tables = {"words": "word", "positions": "position", "types": "token_type"}
    for ours, theirs in tables.items():
        state[f"{ours}.weight"] = _tensor(weights[f"embeddings.{theirs}_embeddings.weight"])
    for kind in ("weight", "bias"):
        state[f"norm.{kind}"] = _tensor(weights[f"embeddings.LayerNorm.{kind}"])
        for index in range(LAYERS):
            theirs = f"encoder.layer.{index}"
            parts = [weights[f"{theirs}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            state[f"layers.{index}.qkv.{kind}"] = _tensor(np.concatenate(parts))
            for our_name, their_name in (
                ("attended", "attention.output.dense"),
                ("attended_norm", "attention.output.LayerNorm"),
                ("widen", "intermediate.dense"),
                ("narrow", "output.dense"),
                ("norm", "output.LayerNorm"),
            ):
                state[f"layers.{index}.{our_name}.{kind}"] = _tensor(weights[f"{theirs}.{their_name}.{kind}"])
    reader.load_state_dict(state)
    return reader


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32))


def parameters(reader: nn.Module) -> int:
    """How many numbers the model is made of."""
    return sum(math.prod(p.shape) for p in reader.parameters())
