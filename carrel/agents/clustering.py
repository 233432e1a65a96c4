"""k-means of unit vectors by cosine, and how many clusters there are: plain NumPy, the same result for a seed.

References: Dhillon and Modha, "Concept Decompositions for Large Sparse Text Data using Clustering", Machine Learning
42, 2001 (spherical k-means); Arthur and Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007;
Rousseeuw, "Silhouettes", Journal of Computational and Applied Mathematics 20, 1987.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from carrel.errors import InputError

MOST_CLUSTERS = 8
"""Looked for where no number is given."""
_TRIES, _ROUNDS = 4, 50

Points = NDArray[np.float64]
Labels = NDArray[np.int64]


def choose_clusters(points: ArrayLike, seed: int = 0) -> Labels:
    """The clustering into 2 to 8 with the best mean silhouette, (N,); fewer clusters win a tie.

    One cluster where there are fewer than three points, or where no clustering has a silhouette above 0.
    """
    units = unit_rows(points)
    best, best_score = np.zeros(len(units), np.int64), 0.0
    for clusters in range(2, min(MOST_CLUSTERS, len(units) - 1) + 1):
        labels = kmeans(units, clusters, seed=seed)
        score = float(silhouettes(units, labels).mean())
        if score > best_score + 1e-9:
            best, best_score = labels, score
    return best


def kmeans(points: ArrayLike, clusters: int, *, seed: int = 0) -> Labels:
    """The cluster of each point, (N,), numbered in the order of their first points; none is empty.

    The best of four tries, by the sum of the cosines of points with the centroids of their clusters.

    Parameters
    ----------
    points : (N, D); only their directions count.
    clusters : how many; no more than there are points.
    seed : of the first centroids, which k-means++ draws.

    Raises
    ------
    InputError : there are no points, or not so many as clusters are wanted, or they are no finite numbers.
    """
    units = unit_rows(points)
    if isinstance(clusters, bool) or not isinstance(clusters, int) or not 1 <= clusters <= len(units):
        raise InputError(f"{len(units)} points make 1 to {len(units)} clusters, not {clusters!r}")
    random = np.random.default_rng(seed)
    tries = [_kmeans(units, _first_centroids(units, clusters, random)) for _ in range(_TRIES)]
    labels, _ = max(tries, key=lambda found: round(found[1], 9))  # the first of those that are equally good
    _, firsts, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(firsts))  # (K,) the rank of each cluster's first point
    return order[inverse].astype(np.int64)


def silhouettes(points: ArrayLike, labels: Labels) -> Points:
    """How much nearer each point is to its own cluster than to the next, (N,), -1 to 1; alone in a cluster, 0.

    Distances are 1 - cosine, whose mean over a cluster needs no more than the cluster's sum.
    """
    units = unit_rows(points)
    member = labels[:, None] == np.arange(labels.max() + 1)[None, :]  # (N, K)
    sizes = member.sum(axis=0)  # (K,)
    cosines = units @ (member.T.astype(np.float64) @ units).T  # (N, K) sums of cosines with a cluster's points
    own_size = sizes[labels]
    itself = np.einsum("nd,nd->n", units, units)
    own = 1 - (np.take_along_axis(cosines, labels[:, None], axis=1)[:, 0] - itself) / np.maximum(own_size - 1, 1)
    others = np.where(member, np.inf, 1 - cosines / np.maximum(sizes, 1))
    nearest = others.min(axis=1)
    largest = np.maximum(own, nearest)
    is_told = (own_size > 1) & np.isfinite(nearest) & (largest > 1e-9)
    scores: Points = np.where(is_told, (np.where(is_told, nearest, 0.0) - own) / np.where(is_told, largest, 1.0), 0.0)
    return scores


def unit_rows(points: ArrayLike) -> Points:
    """Points as rows of length 1, (N, D); a point at the origin stays there."""
    rows = np.asarray(points, np.float64)
    if rows.ndim != 2 or not len(rows) or not np.isfinite(rows).all():
        raise InputError(f"points are one row of finite numbers each, and at least one, not of shape {rows.shape}")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: Points = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return units


def _first_centroids(units: Points, clusters: int, random: np.random.Generator) -> Points:
    """k-means++: each next centroid is a point drawn by its distance to the nearest so far, (K, D)."""
    chosen = [int(random.integers(len(units)))]
    while len(chosen) < clusters:
        far = (1 - units @ units[chosen].T).min(axis=1).clip(min=0)  # (N,) half the squared distance
        far[chosen] = 0
        far[far < 1e-12] = 0
        if far.sum() > 0:
            chosen.append(int(random.choice(len(units), p=far / far.sum())))
        else:  # the rest are copies of those chosen
            chosen.append(next(place for place in range(len(units)) if place not in chosen))
    return units[chosen]


def _kmeans(units: Points, centroids: Points) -> tuple[Labels, float]:
    """Lloyd's rounds until nothing changes: the labels, (N,), and the sum of cosines."""
    labels = np.full(len(units), -1, np.int64)
    for _ in range(_ROUNDS):
        cosines = units @ centroids.T  # (N, K)
        found = _without_empty(cosines, cosines.argmax(axis=1))
        if np.array_equal(found, labels):
            break
        labels = found
        sums = np.stack([units[labels == cluster].sum(axis=0) for cluster in range(len(centroids))])
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centroids = np.where(lengths > 1e-12, sums / np.maximum(lengths, 1e-12), centroids)
    return labels, float((units * centroids[labels]).sum())


def _without_empty(cosines: Points, labels: Labels) -> Labels:
    """Each empty cluster takes the point that lies farthest from its centroid, of a cluster with others in it."""
    labels, own = labels.copy(), np.take_along_axis(cosines, labels[:, None], axis=1)[:, 0]
    for cluster in range(cosines.shape[1]):
        sizes = np.bincount(labels, minlength=cosines.shape[1])
        if not sizes[cluster]:
            place = int(np.where(sizes[labels] > 1, own, np.inf).argmin())
            labels[place], own[place] = cluster, 1.0
    return labels
