from itertools import product

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from codesign.search.front import hypervolume, knee, non_dominated

GRID = st.integers(0, 5).map(float)
POINTS = st.integers(1, 4).flatmap(
    lambda m: arrays(np.float64, st.tuples(st.integers(1, 12), st.just(m)), elements=GRID)
)


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


@given(POINTS)
def test_a_point_stays_exactly_if_no_other_dominates_it(points):
    expected = [not any(dominates(q, p) for q in points) for p in points]
    assert non_dominated(points).tolist() == expected


@given(POINTS, st.randoms())
def test_the_front_does_not_depend_on_the_order(points, random):
    order = list(range(len(points)))
    random.shuffle(order)
    assert non_dominated(points[order]).tolist() == non_dominated(points)[order].tolist()


def test_points_with_nan_never_belong_and_infinite_ones_only_if_nothing_is_better():
    points = np.array([[np.nan, 0.0], [1.0, np.inf], [2.0, 1.0], [0.5, np.inf]])
    assert non_dominated(points).tolist() == [False, False, True, True]


@given(POINTS)
def test_hypervolume_equals_an_independent_implementation(points):
    reference = np.full(points.shape[1], 4.0)
    if points.shape[1] == 1:
        expected = max(0.0, 4.0 - points.min())
    else:
        expected = moocore.hypervolume(points, ref=reference)
    assert hypervolume(points, reference) == pytest.approx(expected)


def test_hypervolume_counts_unit_cells_like_a_brute_force_grid():
    rng = np.random.default_rng(0)
    points = rng.integers(0, 4, (5, 3)).astype(float)
    cells = sum(any((p <= cell).all() for p in points) for cell in np.array(list(product(range(4), repeat=3))))
    assert hypervolume(points, np.full(3, 4.0)) == cells


def test_the_knee_of_an_l_shaped_front_is_its_corner():
    points = np.array([[0.0, 1.0], [0.1, 0.1], [1.0, 0.0], [0.5, 0.08]])
    assert knee(points) == 1


def test_the_knee_does_not_depend_on_the_units_of_an_objective():
    rng = np.random.default_rng(1)
    points = rng.random((30, 3))
    points = points[non_dominated(points)]
    assert knee(points) == knee(points * [1.0, 1e6, 1e-9] + [3.0, -5.0, 0.0])


@pytest.mark.parametrize("points", [[[1.0, 2.0]], [[1.0, 2.0], [1.0, 2.0]], [[1.0, 2.0], [1.0, 3.0]]])
def test_a_front_without_a_hyperplane_still_has_a_knee(points):
    assert knee(np.array(points)) == 0
