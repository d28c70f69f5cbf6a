"""The decoder against every path there is, and the edit distance against its recurrence."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.tasks.viterbi import best_paths, collapse, edit_distance, transition_model

STATES = 3

words = st.lists(st.integers(0, 3), max_size=9)


@pytest.mark.parametrize("seed", range(10))
def test_the_decoder_finds_the_best_of_all_paths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = np.array([1, 4, 6, 2])
    scores = np.log(rng.dirichlet(np.ones(STATES), (4, 6)))
    prior = np.log(rng.dirichlet(np.ones(STATES)))
    transition = np.log(rng.dirichlet(np.ones(STATES), STATES))

    def value(path: tuple[int, ...], row: int) -> float:
        first = prior[path[0]]
        moves = sum(transition[a, b] for a, b in zip(path[:-1], path[1:], strict=True))
        return float(first + moves + sum(scores[row, t, state] - prior[state] for t, state in enumerate(path)))

    for row, found in enumerate(best_paths(scores, lengths, prior, transition)):
        paths = product(range(STATES), repeat=int(lengths[row]))
        assert tuple(found) == max(paths, key=lambda path: value(path, row))


def test_steps_beyond_the_length_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    scores, prior = np.log(rng.dirichlet(np.ones(STATES), (2, 8))), np.log(np.full(STATES, 1 / STATES))
    transition = np.log(rng.dirichlet(np.ones(STATES), STATES))
    lengths = np.array([5, 3])
    other = np.where(np.arange(8)[:, None] < lengths[:, None, None], scores, 7.0)
    for a, b in zip(*(best_paths(s, lengths, prior, transition) for s in (scores, other)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_impossible_move_is_not_made() -> None:
    stay_or_rise = np.array([[0.0, 0.0, -np.inf], [-np.inf, 0.0, 0.0], [-np.inf, -np.inf, 0.0]])
    scores = np.log([[[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.1, 0.2, 0.7], [0.6, 0.2, 0.2]]])
    (path,) = best_paths(scores, np.array([4]), np.zeros(STATES), stay_or_rise)
    assert path.tolist() == [0, 1, 2, 2]


def test_the_transition_model_counts_frames_and_adds_one() -> None:
    prior, transition = transition_model([np.array([0, 0, 1], np.int32), np.array([1, 1], np.int32)], 3)
    np.testing.assert_allclose(np.exp(prior), np.array([3, 4, 1]) / 8)
    np.testing.assert_allclose(np.exp(transition), [[2 / 5, 2 / 5, 1 / 5], [1 / 4, 2 / 4, 1 / 4], [1 / 3] * 3])


def test_repeats_collapse() -> None:
    assert collapse(np.array([1, 1, 2, 2, 2, 1])).tolist() == [1, 2, 1]
    assert collapse(np.array([4])).tolist() == [4]


def by_recurrence(a: list[int], b: list[int]) -> int:
    """The distance by its definition, one cell at a time."""
    table = [[i + j for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            changed = table[i - 1][j - 1] + (a[i - 1] != b[j - 1])
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, changed)
    return table[-1][-1]


@given(words, words)
def test_the_edit_distance_equals_its_recurrence(a: list[int], b: list[int]) -> None:
    assert edit_distance(np.array(a, np.int64), np.array(b, np.int64)) == by_recurrence(a, b)


@given(words, words, words)
def test_the_edit_distance_is_a_metric(a: list[int], b: list[int], c: list[int]) -> None:
    def between(x: list[int], y: list[int]) -> int:
        return edit_distance(np.array(x, np.int64), np.array(y, np.int64))

    assert between(a, b) == between(b, a)
    assert (between(a, b) == 0) == (a == b)
    assert between(a, c) <= between(a, b) + between(b, c)
