"""Pages of keys with bounds, of which a query reads the most promising."""

from __future__ import annotations

import importlib.util
from typing import ClassVar, Literal

import torch
from torch import Tensor

from carrel.errors import InputError, MissingDependencyError
from carrel.generation.kv.base import Choice, SparseAttention, dense_attention
from carrel.generation.kv.oracles import page_count
from carrel.generation.kv.ordering import top_indices
from carrel.generation.kv.sinks import local_index

Kernel = Literal["auto", "torch", "triton"]


class PageBounds:
    """The elementwise largest and smallest key of each page, for keys that grow.

    Attributes
    ----------
    values : (B, h, capacity, 2 * D): the largest, then the smallest; only the first pages are filled.
    length : how many keys they cover.
    """

    def __init__(self, page: int) -> None:
        self.page = page
        self.length = 0
        self.values: Tensor | None = None

    def pages(self) -> Tensor:
        """The bounds of the pages so far, (B, h, P, 2 * D)."""
        if self.values is None:
            raise RuntimeError("no keys were seen")
        return self.values[:, :, : -(-self.length // self.page)]

    def cut(self, length: int) -> None:
        """Forget all keys from ``length`` on."""
        self.length = min(self.length, length)

    def update(self, key: Tensor, heads: Tensor | None = None) -> None:
        """Cover all of key (B, Hkv, S, D); only pages that gained keys are read. ``heads`` are the KV heads wanted."""
        length = key.shape[2]
        if length < self.length or (self.values is not None and self.values.shape[0] != key.shape[0]):
            self.length, self.values = 0, None
        if length == self.length:
            return
        first = self.length // self.page  # the last page may have been short
        fresh = key[:, :, first * self.page :]
        if heads is not None:
            fresh = fresh[:, heads]
        values = self._room(fresh, -(-length // self.page))
        whole = length // self.page
        if whole > first:
            full = fresh[:, :, : (whole - first) * self.page]
            full = full.view(*fresh.shape[:2], whole - first, self.page, -1)  # (B, h, p, page, D)
            low, high = torch.aminmax(full, dim=3)
            values[:, :, first:whole] = torch.cat([high, low], dim=-1)
        if length > whole * self.page:
            rest = fresh[:, :, (whole - first) * self.page :]
            low, high = torch.aminmax(rest, dim=2)
            values[:, :, whole] = torch.cat([high, low], dim=-1)
        self.length = length

    def _room(self, fresh: Tensor, pages: int) -> Tensor:
        """The buffer, grown to hold so many pages. On a CPU in float32, where products of bfloat16 are rounded."""
        batch, heads, _, dim = fresh.shape
        old = self.values
        if old is not None and old.shape[2] >= pages:
            return old
        capacity = max(pages + pages // 4, 8)
        dtype = fresh.dtype if fresh.is_cuda else torch.float32
        room = torch.empty(batch, heads, capacity, 2 * dim, dtype=dtype, device=fresh.device)
        if old is not None:
            room[:, :, : old.shape[2]] = old
        self.values = room
        return room


def bound_scores(query: Tensor, bounds: Tensor) -> Tensor:
    """The largest q.k that each page's bounds allow: queries (B, h, G, D), bounds (B, h, P, 2 * D) -> (B, h, G, P)."""
    states = query.float()
    signed = torch.cat([states.clamp(min=0), states.clamp(max=0)], dim=-1)  # (B, h, G, 2 * D)
    return signed @ bounds.float().transpose(2, 3)


class PagedAttention(SparseAttention):
    """Exact attention in the pages that could hold the best keys, within a constant budget of keys.

    A page's bounds limit how well any of its keys can match the query; the pages with the highest limit are read, and
    the first and the last one always. KV heads that only look nearby, by a measured profile (``streaming_heads``), read
    sinks and a window instead. On CUDA, decoding runs in Triton kernels where triton is installed.

    Parameters
    ----------
    budget : keys a KV head (or query head) reads, at least two pages. At or above all keys it is dense attention.
    page : tokens of a page.
    per_query_head : query heads choose for themselves instead of sharing the pages of their KV head.
    streaming : (layers, Hkv), bool: KV heads that read ``sinks`` and ``window`` tokens only.
    kernel : "triton" or "torch"; "auto" is triton on CUDA where it is installed.
    sparse_queries : of SparseAttention.

    Raises
    ------
    InputError : a budget, page or window of no use. MissingDependencyError : triton is asked for and missing.
    """

    name: ClassVar[str] = "paged"
    citation: ClassVar[str] = "Quest, arXiv 2406.10774; LServe, arXiv 2502.14866"

    def __init__(
        self,
        budget: int,
        *,
        page: int = 16,
        per_query_head: bool = False,
        streaming: Tensor | None = None,
        sinks: int = 4,
        window: int = 256,
        kernel: Kernel = "auto",
        sparse_queries: int = 1,
    ) -> None:
        super().__init__(sparse_queries=sparse_queries)
        if page < 1 or budget < 2 * page:
            raise InputError(f"A budget of {budget} keys is less than two pages of {page}, the first and the last.")
        if sinks < 0 or window < 1:
            raise InputError(f"Sinks are 0 or more and the window is 1 or more tokens, not {sinks} and {window}.")
        self._triton = kernel != "torch" and importlib.util.find_spec("triton") is not None
        if kernel == "triton" and not self._triton:
            raise MissingDependencyError("triton", "torch", "kernel='triton'")
        self.budget, self.page, self.per_query_head = budget, page, per_query_head
        self.streaming, self.sinks, self.window, self.kernel = streaming, sinks, window, kernel
        self._bounds: dict[int, PageBounds] = {}
        self._split: dict[int, tuple[Tensor | None, Tensor | None]] = {}

    def forget(self, layer: int) -> None:
        if layer in self._bounds:
            probe = self._probes.get(layer)
            self._bounds[layer].cut(probe.length if probe else 0)

    def fit(self, layer: int, key: Tensor) -> None:
        """Keep the bounds of the fixed context from one sequence to the next."""
        super().fit(layer, key)
        self._bounds[layer] = PageBounds(self.page)
        retrieving, _ = self._heads(layer, key)
        if retrieving is None or len(retrieving):
            self._bounds[layer].update(key, retrieving)

    def reset(self) -> None:
        super().reset()
        self._bounds.clear()

    def choose(self, layer: int, query: Tensor, key: Tensor, scaling: float) -> list[Choice]:
        retrieving, streaming = self._heads(layer, key)
        choices = []
        if retrieving is None or len(retrieving):
            choices.append(Choice(self._tokens(layer, query, key, retrieving), retrieving))
        if streaming is not None and len(streaming):
            choices.append(Choice(self._local(key, streaming), streaming))
        return choices

    def decode(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        if query.shape[2] > 1 or value.shape[3] != key.shape[3] or not self._kernel_runs(query):
            return super().decode(layer, query, key, value, scaling)
        return self._decode_in_kernels(layer, query, key, value, scaling)

    def _tokens(self, layer: int, query: Tensor, key: Tensor, heads: Tensor | None) -> Tensor:
        """Positions of all keys in the chosen pages, (B, h, g, N)."""
        batch, kv_heads, length, dim = key.shape
        states = query.view(batch, kv_heads, -1, dim)
        scores = bound_scores(states if heads is None else states[:, heads], self._grown(layer, key, heads))
        if not self.per_query_head:
            scores = scores.amax(dim=2, keepdim=True)  # (B, h, g, P)
        scores[..., 0] = scores[..., -1] = torch.inf
        chosen = top_indices(scores, page_count(length, self.page, self.budget))
        within = torch.arange(self.page, device=key.device)
        tokens = (chosen[..., None] * self.page + within).flatten(3)
        spare = -length % self.page  # the last page is always among the chosen, at the end
        return tokens[..., : tokens.shape[-1] - spare]

    def _grown(self, layer: int, key: Tensor, heads: Tensor | None) -> Tensor:
        bounds = self._bounds.setdefault(layer, PageBounds(self.page))
        if bounds.values is not None and bounds.values.shape[0] != key.shape[0]:
            bounds = self._bounds[layer] = self._spread(layer, bounds, key.shape[0])
        bounds.update(key, heads)
        return bounds.pages()

    def _spread(self, layer: int, bounds: PageBounds, batch: int) -> PageBounds:
        """Bounds of another batch size: those of a context fitted alone serve every sequence."""
        spread = PageBounds(self.page)
        probe = self._probes.get(layer)
        if probe is not None and probe.keys.shape[0] == 1 and bounds.values is not None:
            spread.values = bounds.values[:1].repeat(batch, 1, 1, 1)
            spread.length = min(bounds.length, probe.length)
        return spread

    def _local(self, key: Tensor, heads: Tensor) -> Tensor:
        index = local_index(key.shape[2], self.sinks, self.window, key.device)
        return index.expand(key.shape[0], len(heads), 1, -1)

    def _heads(self, layer: int, key: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The retrieving and the streaming KV heads of a layer; None, None where all retrieve."""
        if self.streaming is None:
            return None, None
        if layer >= len(self.streaming) or self.streaming.shape[1] != key.shape[1]:
            raise InputError(
                f"The profile is for {tuple(self.streaming.shape)} layers and KV heads, "
                f"not for layer {layer} with {key.shape[1]} KV heads."
            )
        if layer not in self._split:
            row = self.streaming[layer].to(key.device)
            streaming = row.nonzero()[:, 0]
            self._split[layer] = ((~row).nonzero()[:, 0], streaming) if len(streaming) else (None, None)
        return self._split[layer]

    def _kernel_runs(self, query: Tensor) -> bool:
        return self._triton and (query.is_cuda or self.kernel == "triton")

    def _decode_in_kernels(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        from carrel.generation.kv.kernels import choose_pages, decode_pages

        retrieving, streaming = self._heads(layer, key)
        if retrieving is not None and not len(retrieving):
            return super().decode(layer, query, key, value, scaling)
        count = page_count(key.shape[2], self.page, self.budget)
        pages = choose_pages(
            query,
            self._grown(layer, key, retrieving),
            count,
            kv_heads=key.shape[1],
            heads=retrieving,
            per_query_head=self.per_query_head,
        )
        output = decode_pages(query, key, value, pages, page=self.page, heads=retrieving, scaling=scaling)
        if streaming is None or not len(streaming):
            return output
        group = query.shape[1] // key.shape[1]
        asking = (streaming[:, None] * group + torch.arange(group, device=key.device)).flatten()
        near = local_index(key.shape[2], self.sinks, self.window, key.device)
        keys, values = key[:, streaming][:, :, near], value[:, streaming][:, :, near]
        output[:, asking] = dense_attention(query[:, asking], keys, values, scaling)
        return output
