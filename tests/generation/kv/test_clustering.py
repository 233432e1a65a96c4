"""k-means of many heads against one at a time, and lists of members."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from carrel.generation.kv import clustering  # noqa: E402
from carrel.generation.kv.clustering import Members, kmeans, sums_of  # noqa: E402
from carrel.generation.kv.oracles_clustered import kmeans as plain_kmeans  # noqa: E402
from carrel.generation.kv.oracles_clustered import means  # noqa: E402

pytestmark = pytest.mark.extras
torch.set_num_threads(1)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize(("points", "clusters", "iterations"), [(30, 4, 3), (7, 7, 2), (9, 1, 5), (12, 5, 0)])
def test_all_heads_at_once_are_as_one_by_one(
    monkeypatch: pytest.MonkeyPatch, metric: str, points: int, clusters: int, iterations: int
) -> None:
    monkeypatch.setattr(clustering, "_BLOCK_BYTES", 4 * 3 * clusters * 5)  # several blocks
    keys = torch.randn(3, points, 6, generator=torch.Generator().manual_seed(points))
    found = kmeans(keys, clusters, iterations=iterations, seed=4, metric=metric)
    expected = [plain_kmeans(row, clusters, iterations=iterations, seed=4, metric=metric) for row in keys]
    assert torch.equal(found, torch.stack(expected))


def test_an_empty_cluster_restarts_at_the_worst_point() -> None:
    keys = torch.tensor([[[1.0, 0.0]] * 6 + [[0.0, 1.0], [-1.0, 0.2]]])
    for seed in range(8):  # whatever was drawn first, all three directions are found
        labels = kmeans(keys, 3, seed=seed)[0].tolist()
        assert len({labels[0], labels[6], labels[7]}) == 3


def test_the_seed_decides() -> None:
    keys = torch.randn(1, 60, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(kmeans(keys, 8, seed=1), kmeans(keys, 8, seed=1))
    assert not torch.equal(kmeans(keys, 8, seed=1), kmeans(keys, 8, seed=2))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20))
def test_sums_and_sizes_are_those_of_the_members(labels: list[int]) -> None:
    points = torch.randn(1, len(labels), 3, generator=torch.Generator().manual_seed(1))
    sums, sizes = sums_of(points, torch.tensor([labels]), 5)
    expected, counts = means(points[0], torch.tensor(labels), 5)
    assert sizes[0].tolist() == counts.tolist()
    torch.testing.assert_close(sums[0] / counts.clamp(min=1)[:, None], expected, atol=1e-5, rtol=1e-5)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.permutations(range(5)), st.data())
def test_the_first_members_go_through_the_clusters_in_order(
    labels: list[int], ranks: list[int], data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, len(labels)))
    expected = [at for cluster in ranks for at, label in enumerate(labels) if label == cluster][:count]
    members = Members.of(torch.tensor([labels]), 5)
    found = members.first(torch.tensor([ranks, ranks]), count)  # two queries of one head
    assert found.tolist() == [expected, expected]
    assert members.labels().tolist() == [labels]
