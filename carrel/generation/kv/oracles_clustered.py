"""Clustered sparse attention and k-means in plain functions, one head and one query at a time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from carrel.generation.kv.oracles import attend


def nearest(points: Tensor, centroids: Tensor, metric: str) -> tuple[Tensor, Tensor]:
    """The best centroid of each point and how good it is, (N,) and (N,); of equals the first."""
    similarity = points @ centroids.T  # (N, K)
    if metric == "l2":  # larger where the squared distance is smaller; |point|^2 is the same for all centroids
        similarity = 2 * similarity - centroids.square().sum(-1)
    best, labels = similarity.max(dim=-1)
    return labels, best


def kmeans(points: Tensor, clusters: int, *, iterations: int = 5, seed: int = 0, metric: str = "cosine") -> Tensor:
    """Lloyd's k-means of normalised points (N, D): the cluster of each point, (N,), int64.

    It starts from ``clusters`` points drawn with the seed. A cluster left empty restarts at a point that fits its own
    worst. "cosine" normalises the centroids, "l2" does not.
    """
    points = normalize(points.float(), dim=-1)
    drawn = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:clusters]
    centroids = points[drawn.sort().values.to(points.device)]
    for _ in range(iterations):
        labels, best = nearest(points, centroids, metric)
        worst = iter(best.argsort(stable=True).tolist())
        rows = []
        for cluster in range(clusters):
            members = points[labels == cluster]
            rows.append(members.mean(0) if len(members) else points[next(worst)])
        centroids = torch.stack(rows)
        if metric == "cosine":
            centroids = normalize(centroids, dim=-1)
    return nearest(points, centroids, metric)[0]


def means(keys: Tensor, labels: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """The mean key (K, D) and the size (K,) of each cluster; an empty one has mean zero."""
    sizes = torch.stack([(labels == cluster).sum() for cluster in range(clusters)])
    sums = torch.stack([keys[labels == cluster].sum(0) for cluster in range(clusters)])
    return sums / sizes.clamp(min=1)[:, None], sizes


def key_shares(queries: Tensor, centroids: Tensor, sizes: Tensor, scale: float) -> Tensor:
    """Log of the attention that a key of each cluster would get if all sat at their centroid; best over the queries.

    (G, D), (K, D), (K,) -> (K,).
    """
    logits = scale * queries @ centroids.T  # (G, K)
    return (logits - torch.logsumexp(logits + sizes.log(), dim=-1, keepdim=True)).amax(0)


def preferred(
    queries: Tensor, keys: Tensor, labels: Tensor, clusters: int, scale: float, coarse: Tensor | None, kept: int
) -> list[int]:
    """Cluster ids from the most to the least wanted by queries (G, D) of one KV head.

    With ``coarse`` (K,), the coarse cluster of each cluster, only the first ``kept`` clusters in the order of their
    coarse clusters are compared with the queries; the others follow in that order.
    """
    centroids, sizes = means(keys, labels, clusters)
    if coarse is None:
        return _ranked(key_shares(queries, centroids, sizes, scale))
    groups = int(coarse.max()) + 1
    ranks = _ranked(key_shares(queries, *means(keys, coarse[labels], groups), scale))
    listing = sorted(range(clusters), key=lambda cluster: (ranks.index(int(coarse[cluster])), cluster))
    near = listing[:kept]
    order = _ranked(key_shares(queries, centroids[near], sizes[near], scale))
    return [near[i] for i in order] + listing[kept:]


def _ranked(scores: Tensor) -> list[int]:
    order: list[int] = scores.argsort(descending=True, stable=True).tolist()
    return order


def clustered_mask(
    query: Tensor,
    key: Tensor,
    labels: Tensor,
    *,
    context: int,
    budget: int,
    sinks: int = 0,
    coarse: Tensor | None = None,
    kept: int = 0,
    per_query_head: bool = False,
    scaling: float | None = None,
) -> Tensor:
    """Which keys one query (Q = 1) reads under ``clustered``, (B, H, S), bool."""
    batch, heads, _, dim = query.shape
    group = heads // key.shape[1]
    scale = dim**-0.5 if scaling is None else scaling
    allowed = torch.zeros(batch, heads, key.shape[2], dtype=torch.bool, device=key.device)
    allowed[..., :sinks] = allowed[..., context:] = True
    for b in range(batch):
        for head in range(heads):
            kv_head, first = head // group, head // group * group
            asking = slice(head, head + 1) if per_query_head else slice(first, first + group)
            of = labels[b, kv_head]  # (context - sinks,)
            above = None if coarse is None else coarse[b, kv_head]
            clusters = int(of.max()) + 1 if above is None else len(above)
            keys = key[b, kv_head, sinks:context].float()
            order = preferred(query[b, asking, 0].float(), keys, of, clusters, scale, above, kept)
            members = torch.cat([(of == cluster).nonzero()[:, 0] for cluster in order])
            allowed[b, head, sinks + members[:budget]] = True
    return allowed


def clustered(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    labels: Tensor,
    *,
    context: int,
    budget: int,
    sinks: int = 0,
    coarse: Tensor | None = None,
    kept: int = 0,
    per_query_head: bool = False,
    scaling: float | None = None,
) -> Tensor:
    """Exact attention over the best-fitting clusters of a fixed context, and over all that follows the context.

    The keys ``sinks`` to ``context`` were clustered beforehand, ``labels`` (B, Hkv, context - sinks). The queries
    compare themselves with each cluster's mean key and read the clusters from the best down until ``budget`` keys are
    read; the first ``sinks`` keys and those from ``context`` on are read besides. With ``coarse`` (B, Hkv, K) a first
    look at coarse clusters leaves ``kept`` clusters to compare with. Each query chooses anew.
    Squeezed Attention, arXiv 2411.09688.
    """
    queries, keys = query.shape[2], key.shape[2]
    outputs = []
    for step in range(queries):
        seen = keys - queries + step + 1
        one, past = query[:, :, step : step + 1], key[:, :, :seen]
        allowed = clustered_mask(
            one,
            past,
            labels,
            context=context,
            budget=budget,
            sinks=sinks,
            coarse=coarse,
            kept=kept,
            per_query_head=per_query_head,
            scaling=scaling,
        )
        outputs.append(attend(one, past, value[:, :, :seen], allowed[:, :, None], scaling))
    return torch.cat(outputs, dim=2)
