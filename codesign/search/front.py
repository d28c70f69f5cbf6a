"""Fronts: who is not dominated, how much they cover, and where the knee is. All objectives are minimised."""

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def non_dominated(points: Points) -> NDArray[np.bool_]:
    """Which rows of (n, objectives) no other row dominates.

    A point dominates another if it is nowhere worse and somewhere better; equal points stay together.
    Rows with a NaN never belong to the front.
    """
    left = np.flatnonzero(~np.isnan(points).any(axis=1))
    left = left[np.lexsort(points[left].T[::-1])]
    keep = np.zeros(len(points), np.bool_)
    while len(left):  # whoever dominates a point comes before it in lexicographic order
        best, left = left[0], left[1:]
        keep[best] = True
        worse = (points[left] >= points[best]).all(axis=1) & (points[left] > points[best]).any(axis=1)
        left = left[~worse]
    return keep


def hypervolume(points: Points, reference: Points) -> float:
    """Volume that the points dominate within the box below the reference point.

    The first objective is swept: between two neighbours in it, the slice is the volume in the other
    objectives of all points up to there (While et al., "A fast way of calculating exact
    hypervolumes", IEEE TEC 2012, describe the family; fronts here are small).

    Args:
        points: (n, m), any order, dominated or not.
        reference: (m,); points that are not below it in every objective add nothing.
    """
    inside = points[(points < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    if inside.shape[1] == 1:
        return float(reference[0] - inside.min())
    if inside.shape[1] == 2:
        inside = inside[np.lexsort(inside.T[::-1])]
        widths = np.append(inside[1:, 0], reference[0]) - inside[:, 0]
        return float(np.dot(widths, reference[1] - np.minimum.accumulate(inside[:, 1])))
    inside = np.unique(inside[non_dominated(inside)], axis=0)  # sorted by the first objective
    ends = np.append(inside[1:, 0], reference[0])
    slices = [hypervolume(inside[: i + 1, 1:], reference[1:]) for i in range(len(inside))]
    return float(np.dot(ends - inside[:, 0], slices))


def knee(points: Points) -> int:
    """Row of a front that lies farthest below the hyperplane through its extremes.

    Objectives are first scaled to 0..1 over the front. The extremes are the rows best in one objective
    each (ties: best in the sum); where they span no hyperplane, the plane through the unit points
    takes its place.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    n_objectives = points.shape[1]
    extremes = np.stack([scaled[np.lexsort((scaled.sum(1), scaled[:, j]))[0]] for j in range(n_objectives)])
    try:
        normal = np.linalg.solve(extremes, np.ones(n_objectives))
    except np.linalg.LinAlgError:
        normal = np.ones(n_objectives)
    if not np.isfinite(normal).all() or (normal <= 0).any():
        normal = np.ones(n_objectives)
    return int(np.argmin(scaled @ normal))
