"""k-means of many heads at once, and clusters as lists of positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

Metric = Literal["cosine", "l2"]
_BLOCK_BYTES = 64 * 2**20  # of the similarities that are held at once


def kmeans(points: Tensor, clusters: int, *, iterations: int = 5, seed: int = 0, metric: Metric = "cosine") -> Tensor:
    """Lloyd's k-means of normalised points, each row for itself: (R, N, D) -> labels (R, N), int64.

    Starts from the same drawn positions in every row. An empty cluster restarts at a point that fits its own worst.
    The same on every run, on CUDA too.
    """
    points = normalize(points.float(), dim=-1)
    count = points.shape[1]
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:clusters]
    centroids = points[:, drawn.sort().values.to(points.device)]  # (R, K, D)
    for _ in range(iterations):
        labels, best = _nearest(points, centroids, metric)
        sums, sizes = sums_of(points, labels, clusters)
        centroids = sums / sizes.clamp(min=1)[..., None]
        empty = sizes == 0  # (R, K)
        worst = best.argsort(dim=-1, stable=True)  # (R, N)
        spare = worst.gather(1, (empty.cumsum(1) - 1).clamp(min=0, max=count - 1))  # (R, K)
        restart = points.gather(1, spare[..., None].expand_as(centroids))
        centroids = torch.where(empty[..., None], restart, centroids)
        if metric == "cosine":
            centroids = normalize(centroids, dim=-1)
    return _nearest(points, centroids, metric)[0]


def _nearest(points: Tensor, centroids: Tensor, metric: Metric) -> tuple[Tensor, Tensor]:
    """The best centroid of each point, the first of equals, and how good it is: (R, N), (R, N)."""
    rows, count, _ = points.shape
    block = max(1, _BLOCK_BYTES // (4 * rows * centroids.shape[1]))
    lengths = centroids.square().sum(-1)[:, None] if metric == "l2" else None
    parts = []
    for start in range(0, count, block):
        similarity = points[:, start : start + block] @ centroids.transpose(1, 2)  # (R, n, K)
        if lengths is not None:
            similarity = 2 * similarity - lengths
        parts.append(similarity.max(dim=-1))
    return torch.cat([part.indices for part in parts], 1), torch.cat([part.values for part in parts], 1)


def sums_of(points: Tensor, labels: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """The sum of each cluster's points and how many they are: (R, N, D), (R, N) -> (R, K, D), (R, K).

    Sums over points sorted by cluster, which is the same on every run where atomic additions are not.
    """
    rows, _, dim = points.shape
    order = labels.argsort(dim=-1, stable=True)
    sizes = torch.zeros(rows, clusters, dtype=torch.int64, device=points.device)
    sizes.scatter_add_(1, labels, torch.ones_like(labels))
    sorted_points = points.gather(1, order[..., None].expand_as(points)).reshape(-1, dim)
    sums = torch.segment_reduce(sorted_points.contiguous(), "sum", lengths=sizes.flatten(), axis=0)
    return sums.view(rows, clusters, dim), sizes


@dataclass(frozen=True, slots=True)
class Members:
    """The members of each cluster, as one list sorted by cluster and by position within it.

    Attributes
    ----------
    order : (..., N), the members. starts, sizes : (..., K), where each cluster's begin and how many they are.
    """

    order: Tensor
    starts: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, labels: Tensor, clusters: int) -> Members:
        """From the cluster of each member, (..., N)."""
        sizes = torch.zeros(*labels.shape[:-1], clusters, dtype=torch.int64, device=labels.device)
        sizes.scatter_add_(-1, labels, torch.ones_like(labels))
        return cls(labels.argsort(dim=-1, stable=True), sizes.cumsum(-1) - sizes, sizes)

    def labels(self) -> Tensor:
        """The cluster of each member, as ``of`` was given them."""
        ids = torch.arange(self.sizes.shape[-1], device=self.sizes.device).expand(self.sizes.shape)
        sorted_labels = torch.repeat_interleave(ids.flatten(), self.sizes.flatten()).view(self.order.shape)
        return torch.empty_like(self.order).scatter_(-1, self.order, sorted_labels)

    def first(self, ranks: Tensor, count: int) -> Tensor:
        """The first ``count`` members, going through the clusters in the order of ``ranks`` (..., K) -> (..., count).

        ``ranks`` names every cluster once; its leading dimensions may be larger where the clusters' are 1.
        """
        shape = ranks.shape[:-1]
        sizes = self.sizes.expand(*shape, -1).gather(-1, ranks)
        ends = sizes.cumsum(-1)
        slots = torch.arange(count, device=ranks.device).expand(*shape, -1).contiguous()
        turn = torch.searchsorted(ends, slots, right=True)  # empty clusters are passed over
        within = slots - (ends - sizes).gather(-1, turn)
        starts = self.starts.expand(*shape, -1).gather(-1, ranks.gather(-1, turn))
        return self.order.expand(*shape, -1).gather(-1, starts + within)
