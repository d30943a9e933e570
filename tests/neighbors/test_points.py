"""Sampling and neighbors of clouds, against loops; they follow the points, not their order."""

import pytest
import torch

from dreibein.neighbors import farthest_points, nearest_points, points
from dreibein.o3 import random_rotations


def clouds(sizes, seed=0, width=3):
    """Random points and their batch."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(sum(sizes), width, dtype=torch.float64, generator=generator)
    return x, torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))


def farthest_by_loops(x, count, start=None):
    if start is None:
        start = int((x - x.mean(0)).norm(dim=1).argmax())
    chosen = [start]
    while len(chosen) < min(count, len(x)):
        gaps = [
            -1.0 if i in chosen else min(float((p - x[c]).norm()) for c in chosen)
            for i, p in enumerate(x)
        ]
        chosen.append(int(torch.tensor(gaps).argmax()))
    return chosen


def nearest_by_loops(x, q, k, radius=torch.inf, same=False):
    edges = []
    for i, point in enumerate(q):
        near = sorted(
            (float((y - point).norm()), j) for j, y in enumerate(x) if not (same and i == j)
        )
        edges += [(j, i) for d, j in near[:k] if d <= radius]
    return torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T


@pytest.mark.parametrize("count", [1, 4, 9, 50])
def test_farthest_points_are_those_of_loops(count):
    sizes = [7, 1, 12]
    x, batch = clouds(sizes)
    expected, first = [], 0
    for size in sizes:
        expected += [first + i for i in farthest_by_loops(x[first : first + size], count)]
        first += size
    assert farthest_points(x, count, batch).tolist() == expected


def test_farthest_points_do_not_depend_on_the_order():
    x, _ = clouds([30])
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    chosen = x[farthest_points(x, 8)]
    assert torch.equal(x[order][farthest_points(x[order], 8)], chosen)
    # the mutant that starts at the first row, whichever point that is
    mutant = [x[farthest_by_loops(x, 8, 0)], x[order][farthest_by_loops(x[order], 8, 0)]]
    assert not torch.equal(mutant[0].sort(0).values, mutant[1].sort(0).values)


def test_both_are_the_same_for_a_turned_and_moved_cloud():
    x, batch = clouds([20, 15])
    g = -random_rotations(1, generator=torch.Generator().manual_seed(3))[0]
    y = x @ g.T + 5.0
    assert torch.equal(farthest_points(x, 6, batch), farthest_points(y, 6, batch))
    assert torch.equal(nearest_points(x, 4, batch=batch), nearest_points(y, 4, batch=batch))


def test_coincident_points_are_chosen_once():
    x = torch.zeros(5, 3)
    assert sorted(farthest_points(x, 9).tolist()) == [0, 1, 2, 3, 4]
    edges = nearest_points(x, 2)
    assert edges.shape == (2, 10)
    assert (edges[0] != edges[1]).all()


@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("radius", [None, 1.0, 0.0])
@pytest.mark.parametrize("width", [3, 7])
def test_nearest_points_are_those_of_loops(k, radius, width, monkeypatch):
    monkeypatch.setattr(points, "_BLOCK", 50 * width)  # some queries at a time
    x, batch = clouds([9, 1, 6], width=width)
    q, query_batch = clouds([4, 3, 2], seed=1, width=width)
    q[0] = x[3]
    found = nearest_points(x, k, queries=q, radius=radius, batch=batch, query_batch=query_batch)
    alone = nearest_points(x, k, radius=radius, batch=batch)
    r = torch.inf if radius is None else radius
    expected, expected_alone = [], []
    for b in range(3):
        first, query = (batch < b).sum(), (query_batch < b).sum()
        local = x[batch == b]
        edges = nearest_by_loops(local, q[query_batch == b], k, r)
        expected.append(edges + torch.stack((first, query))[:, None])
        expected_alone.append(nearest_by_loops(local, local, k, r, same=True) + first)
    assert torch.equal(found, torch.cat(expected, 1))
    assert torch.equal(alone, torch.cat(expected_alone, 1))


def test_clouds_that_are_missing_have_no_neighbors():
    x, batch = clouds([3, 4])
    q, query_batch = clouds([2, 2, 2], seed=1)
    edges = nearest_points(x, 2, queries=q, batch=batch * 2, query_batch=query_batch)
    assert set(edges[1].tolist()) == {0, 1, 4, 5}
    assert farthest_points(x, 2, batch * 2).tolist() == farthest_points(x, 2, batch).tolist()
    nobody = torch.zeros(0, 3)
    assert farthest_points(nobody, 2).shape == (0,)
    assert nearest_points(nobody, 2).shape == (2, 0)
    assert nearest_points(x, 2, queries=nobody).shape == (2, 0)
    assert nearest_points(x[:1], 2).shape == (2, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, b: farthest_points(x[0], 2), r"points are \[N, D\], got the shape \[3\]"),
        (lambda x, b: farthest_points(x, 0), "at least 1, got 0"),
        (lambda x, b: farthest_points(x, 2, b.flip(0)), "sort the points by cloud"),
        (lambda x, b: farthest_points(x, 2, b[1:]), r"the batch of 7 points is \[7\] int64"),
        (lambda x, b: nearest_points(x, 0), "at least 1, got 0"),
        (lambda x, b: nearest_points(x, 1, radius=-1.0), "radius is a length"),
        (lambda x, b: nearest_points(x, 1, radius=torch.nan), "radius is a length"),
        (lambda x, b: nearest_points(x, 1, queries=x[:, :2]), "width 3 meet queries of 2"),
        (
            lambda x, b: nearest_points(x, 1, queries=x, query_batch=b.double()),
            r"queries is \[7\] int64, got \[7\] torch.float64",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(*clouds([3, 4]))
