"""Clusters of a fixed context's keys, of which a query reads those nearest to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from carrel.errors import InputError
from carrel.generation.kv.base import Choice, SparseAttention
from carrel.generation.kv.clustering import Members, Metric, kmeans, sums_of
from carrel.generation.kv.ordering import ranking


@dataclass(frozen=True, slots=True)
class Level:
    """Clusters with the mean of their keys: means (B, Hkv, K, D), float32, and how many keys each has (B, Hkv, K)."""

    means: Tensor
    sizes: Tensor


@dataclass(frozen=True, slots=True)
class Fitted:
    """The clusters of one layer's context of ``length`` keys; ``groups`` and ``above`` are the coarse level."""

    length: int
    members: Members  # positions less the sinks, (B, Hkv, C - sinks), by cluster
    fine: Level
    groups: Members | None = None  # clusters, (B, Hkv, K), by coarse cluster
    above: Level | None = None


class ClusteredAttention(SparseAttention):
    """Exact attention over the clusters of a fixed context that are nearest to the query, and over all that follows.

    ``fit`` clusters the keys of the context once (k-means, each KV head for itself); every query then compares itself
    with the clusters' mean keys and reads the nearest ones up to the budget. Made for many questions over one context.
    Without a context, or with one no longer than the sinks, attention is dense.

    Parameters
    ----------
    budget : keys of the context a KV head (or query head) reads; sinks and what follows the context come on top.
    keys_per_cluster : the mean size of a cluster.
    levels : 2 compares with coarse clusters first, about the square root of the clusters, and then only with the
        clusters in the nearest of those.
    reach : with two levels, so many times the clusters that would fill the budget are compared with.
    sinks : tokens at the start that are always read.
    per_query_head : query heads choose for themselves instead of sharing the keys of their KV head.
    iterations, seed, metric : of k-means on normalised keys; "cosine" keeps its centroids normalised, "l2" does not.
    sparse_queries : of SparseAttention.

    Raises
    ------
    InputError : a parameter of no use; ``choose`` without clusters.
    """

    name: ClassVar[str] = "clustered"
    citation: ClassVar[str] = "Squeezed Attention, arXiv 2411.09688"
    needs_context: ClassVar[bool] = True

    def __init__(
        self,
        budget: int,
        *,
        keys_per_cluster: int = 16,
        levels: int = 1,
        reach: float = 4.0,
        sinks: int = 4,
        per_query_head: bool = False,
        iterations: int = 5,
        seed: int = 0,
        metric: Metric = "cosine",
        sparse_queries: int = 1,
    ) -> None:
        super().__init__(sparse_queries=sparse_queries)
        if budget < 1 or keys_per_cluster < 1 or sinks < 0 or iterations < 0:
            raise InputError("Budget and keys_per_cluster are at least 1, sinks and iterations at least 0.")
        if levels not in (1, 2) or reach < 1 or metric not in ("cosine", "l2"):
            raise InputError("levels is 1 or 2, reach at least 1, metric 'cosine' or 'l2'.")
        self.budget, self.keys_per_cluster, self.levels, self.reach = budget, keys_per_cluster, levels, reach
        self.sinks, self.per_query_head = sinks, per_query_head
        self.iterations, self.seed, self.metric = iterations, seed, metric
        self._fitted: dict[int, Fitted] = {}

    def fit(self, layer: int, key: Tensor) -> None:
        """Cluster the keys of the fixed context, (B, Hkv, C, D); one of sinks alone stays without, and dense."""
        super().fit(layer, key)
        length = key.shape[2]
        keys = key[:, :, self.sinks :].float().flatten(0, 1)  # (R, N, D)
        if keys.shape[1] == 0:
            self._probes.pop(layer)
            self._fitted.pop(layer, None)
            return
        clusters = math.ceil(keys.shape[1] / self.keys_per_cluster)
        labels = self._kmeans(keys, clusters)
        sums, sizes = sums_of(keys, labels, clusters)
        heads = key.shape[:2]
        fine = _level(sums, sizes, heads)
        members = Members.of(labels.view(*heads, -1), clusters)
        if self.levels == 1:
            self._fitted[layer] = Fitted(length, members, fine)
            return
        coarse = math.ceil(math.sqrt(clusters))
        groups = self._kmeans(fine.means.flatten(0, 1), coarse)  # (R, K)
        above = _level(*sums_of(keys, groups.gather(1, labels), coarse), heads)
        self._fitted[layer] = Fitted(length, members, fine, Members.of(groups.view(*heads, -1), coarse), above)

    def reset(self) -> None:
        super().reset()
        self._fitted.clear()

    def kept(self, clusters: int) -> int:
        """How many clusters a query is compared with when there are two levels."""
        return min(clusters, max(1, math.ceil(self.reach * self.budget / self.keys_per_cluster)))

    def choose(self, layer: int, query: Tensor, key: Tensor, scaling: float) -> list[Choice]:
        batch, kv_heads, length, dim = key.shape
        fitted = self._fitted.get(layer)
        if fitted is None:
            raise InputError(f"Layer {layer} has no clusters: call fit with the keys of the fixed context first.")
        states = query.view(batch, kv_heads, -1, dim).float()  # (B, Hkv, G, D)
        count = min(self.budget, fitted.length - self.sinks)
        chosen = _each(fitted.members).first(self._ranks(fitted, states, scaling), count) + self.sinks
        shape = (*chosen.shape[:-1], -1)
        head = torch.arange(self.sinks, device=key.device).expand(shape)
        rest = torch.arange(fitted.length, length, device=key.device).expand(shape)
        return [Choice(torch.cat([head, chosen, rest], dim=-1))]

    def _ranks(self, fitted: Fitted, states: Tensor, scaling: float) -> Tensor:
        """All clusters from the most to the least wanted, (B, Hkv, g, K)."""
        if fitted.groups is None or fitted.above is None:
            return ranking(self._shares(states, fitted.fine.means, fitted.fine.sizes[:, :, None], scaling))
        coarse = ranking(self._shares(states, fitted.above.means, fitted.above.sizes[:, :, None], scaling))
        clusters = fitted.fine.sizes.shape[-1]
        listing = _each(fitted.groups).first(coarse, clusters)  # (B, Hkv, g, K)
        near = listing[..., : self.kept(clusters)]
        shape = (*near.shape, states.shape[-1])
        means = fitted.fine.means[:, :, None].expand(*shape[:3], -1, -1).gather(3, near[..., None].expand(shape))
        sizes = fitted.fine.sizes[:, :, None].expand(*shape[:3], -1).gather(3, near)
        order = ranking(self._shares(states, means, sizes, scaling))
        return torch.cat([near.gather(-1, order), listing[..., near.shape[-1] :]], dim=-1)

    def _shares(self, states: Tensor, means: Tensor, sizes: Tensor, scaling: float) -> Tensor:
        """Log of the attention that a key of each cluster would get, were all at their mean, (B, Hkv, g, K).

        Shared choices take the largest over the query heads. means are (B, Hkv, K, D) or (B, Hkv, g, K, D).
        """
        if means.ndim == 4:
            logits = states @ means.transpose(2, 3)  # (B, Hkv, G, K)
        elif means.shape[2] == 1:
            logits = states @ means[:, :, 0].transpose(2, 3)
        else:
            logits = (means @ states[..., None])[..., 0]
        logits = scaling * logits
        shares = logits - torch.logsumexp(logits + sizes.log(), dim=-1, keepdim=True)
        return shares if self.per_query_head else shares.amax(dim=2, keepdim=True)

    def _kmeans(self, points: Tensor, clusters: int) -> Tensor:
        return kmeans(points, clusters, iterations=self.iterations, seed=self.seed, metric=self.metric)


def _level(sums: Tensor, sizes: Tensor, heads: torch.Size) -> Level:
    means = sums / sizes.clamp(min=1)[..., None]
    return Level(means.view(*heads, *means.shape[1:]), sizes.view(*heads, -1))


def _each(members: Members) -> Members:
    """With a dimension for the query heads: (B, Hkv, ...) -> (B, Hkv, 1, ...)."""
    return Members(members.order[:, :, None], members.starts[:, :, None], members.sizes[:, :, None])
