"""k-means by cosine: every point has a cluster, none is empty, groups are found; against plain oracles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from carrel.agents.clustering import MOST_CLUSTERS, choose_clusters, kmeans, silhouettes, unit_rows
from carrel.errors import InputError

_points = st.integers(1, 12).flatmap(lambda n: arrays(np.float32, (n, 3), elements=st.floats(-2, 2, width=16)))


def groups(count: int, each: int, seed: int = 0, dimensions: int = 16) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points around directions that are far apart, in a shuffled order, and which direction each is of."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(count), each))
    return np.eye(dimensions)[labels] + random.normal(0, 0.05, (count * each, dimensions)), labels


def same(first: NDArray[np.int64], second: NDArray[np.int64]) -> bool:
    return bool(((first[:, None] == first[None]) == (second[:, None] == second[None])).all())


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_groups_are_found_and_so_is_their_number(count: int) -> None:
    points, labels = groups(count, 6, seed=count)
    assert same(kmeans(points, count), labels)
    assert same(choose_clusters(points), labels)


def test_only_directions_count() -> None:
    points, _ = groups(3, 5)
    lengths = np.random.default_rng(1).uniform(0.1, 9, (15, 1))
    assert np.array_equal(kmeans(points, 3), kmeans(points * lengths, 3))


def test_clusters_are_numbered_as_they_come() -> None:
    points, _ = groups(5, 3)
    labels = kmeans(points, 5)
    assert [int(label) for label in dict.fromkeys(labels.tolist())] == [0, 1, 2, 3, 4]


@given(_points, st.data())
def test_no_cluster_is_empty_and_the_same_seed_gives_the_same(points: NDArray[np.float32], data: st.DataObject) -> None:
    clusters, seed = data.draw(st.integers(1, len(points))), data.draw(st.integers(0, 3))
    labels = kmeans(points, clusters, seed=seed)
    assert labels.shape == (len(points),) and sorted(set(labels.tolist())) == list(range(clusters))
    assert np.array_equal(labels, kmeans(points, clusters, seed=seed))


@given(_points)
def test_chosen_clusters_are_few_and_full(points: NDArray[np.float32]) -> None:
    found = sorted(set(choose_clusters(points).tolist()))
    assert found == list(range(len(found))) and len(found) <= min(MOST_CLUSTERS, max(1, len(points) - 1))


def test_what_has_no_groups_is_one_cluster() -> None:
    assert choose_clusters(np.ones((9, 4))).tolist() == [0] * 9
    assert choose_clusters(np.eye(2)).tolist() == [0, 0]
    assert choose_clusters(np.zeros((4, 3))).tolist() == [0] * 4


def test_equal_points_make_as_many_clusters_as_are_wanted() -> None:
    assert sorted(kmeans(np.ones((4, 2)), 4).tolist()) == [0, 1, 2, 3]


def plain_silhouettes(points: NDArray[np.float64], labels: NDArray[np.int64]) -> list[float]:
    """The definition, point by point."""
    units, out = unit_rows(points), []
    far = 1 - units @ units.T
    for i, own in enumerate(labels):
        inside = [far[i, j] for j in range(len(labels)) if j != i and labels[j] == own]
        means = [
            np.mean([far[i, j] for j in range(len(labels)) if labels[j] == c]) for c in set(labels.tolist()) if c != own
        ]
        a, b = (np.mean(inside) if inside else 0.0), (min(means) if means else 0.0)
        out.append(float((b - a) / max(a, b)) if inside and means and max(a, b) > 1e-9 else 0.0)
    return out


@given(st.integers(2, 5), st.integers(0, 99))
def test_silhouettes_are_those_of_the_definition(clusters: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    points = random.normal(size=(14, 3))
    labels = np.concatenate([np.arange(clusters), random.integers(0, clusters, 14 - clusters)])
    np.testing.assert_allclose(silhouettes(points, labels), plain_silhouettes(points, labels), atol=1e-9)


def test_k_means_beats_chance() -> None:
    points = np.random.default_rng(5).normal(size=(40, 8))

    def inertia(labels: NDArray[np.int64]) -> float:
        sums = np.stack([unit_rows(points)[labels == cluster].sum(axis=0) for cluster in range(4)])
        return float(np.linalg.norm(sums, axis=1).sum())  # of cosines with the centroids

    chance = max(inertia(np.random.default_rng(n).permutation(np.arange(40) % 4)) for n in range(50))
    assert inertia(kmeans(points, 4)) > chance


def test_what_cannot_be_clustered() -> None:
    for points in (np.zeros((0, 3)), np.zeros(3), np.array([[1.0, np.nan]])):
        with pytest.raises(InputError, match="finite"):
            kmeans(points, 1)
    for clusters in (0, 4, True, 1.0):
        with pytest.raises(InputError, match="1 to 3"):
            kmeans(np.eye(3), clusters)  # type: ignore[arg-type]
