"""Sigmoid and tanh in straight segments (the table, its error, symmetry and gradient), and as clipped lines."""

from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from codesign.numerics.activations import functions, hard_sigmoid, hard_tanh, piecewise_sigmoid

PIECEWISE = "piecewise_linear"
SEGMENTS = [2, 5, 32, 256]
Z = jnp.linspace(-20.0, 20.0, 4001)
BEYOND = 3.4e-4  # how far the sigmoid is from 1 at the end of the table


def exact_sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-z))


def table(z: NDArray[np.float64], segments: int) -> NDArray[np.float64]:
    """The interpolated sigmoid, looked up."""
    points = np.linspace(0.0, 8.0, segments + 1)
    upper = np.interp(np.abs(z), points, exact_sigmoid(points))
    return np.where(z < 0, 1.0 - upper, upper)


@pytest.mark.parametrize("segments", SEGMENTS)
def test_the_sigmoid_equals_interpolation_in_its_table(segments: int) -> None:
    expected = table(np.asarray(Z, np.float64), segments)
    np.testing.assert_allclose(piecewise_sigmoid(Z, segments), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("segments", SEGMENTS)
def test_the_sigmoid_is_exact_at_the_points_of_its_table(segments: int) -> None:
    points = np.linspace(0.0, 8.0, segments + 1)
    found = piecewise_sigmoid(jnp.asarray(points, jnp.float32), segments)
    np.testing.assert_allclose(found, exact_sigmoid(points), atol=2e-7, rtol=0)


@pytest.mark.parametrize("segments", SEGMENTS)
def test_the_error_is_that_of_linear_interpolation(segments: int) -> None:
    # At most width^2 / 8 times the largest second derivative of the sigmoid, 1 / (6 sqrt 3).
    bound = max(BEYOND, (8.0 / segments) ** 2 / 8.0 / (6.0 * sqrt(3.0))) + 1e-6
    z = np.asarray(Z, np.float64)
    assert np.abs(np.asarray(piecewise_sigmoid(Z, segments)) - exact_sigmoid(z)).max() <= bound
    assert np.abs(np.asarray(functions(PIECEWISE, segments)[1](Z)) - np.tanh(z)).max() <= 2 * bound


@pytest.mark.parametrize("segments", SEGMENTS)
def test_sigmoid_and_tanh_never_fall(segments: int) -> None:
    one_rounding = 1.3e-7
    for function in functions(PIECEWISE, segments):
        assert np.diff(np.asarray(function(Z), np.float64)).min() >= -one_rounding


@pytest.mark.parametrize("segments", SEGMENTS)
def test_the_sigmoid_of_minus_z_is_one_minus_that_of_z(segments: int) -> None:
    np.testing.assert_array_equal(piecewise_sigmoid(-Z[Z > 0], segments), 1.0 - piecewise_sigmoid(Z[Z > 0], segments))


@pytest.mark.parametrize("segments", SEGMENTS)
def test_tanh_is_a_stretched_sigmoid(segments: int) -> None:
    expected = 2.0 * table(2.0 * np.asarray(Z, np.float64), segments) - 1.0
    np.testing.assert_allclose(functions(PIECEWISE, segments)[1](Z), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("segments", [2, 32])
def test_the_gradient_is_that_of_the_smooth_functions(segments: int) -> None:
    for function, smooth in zip(functions(PIECEWISE, segments), (jax.nn.sigmoid, jnp.tanh), strict=True):
        found, expected = (jax.grad(lambda z, f=f: jnp.sum(f(z)))(Z) for f in (function, smooth))
        np.testing.assert_allclose(found, expected, atol=1e-7)


def test_the_exact_functions_are_the_smooth_ones() -> None:
    sigmoid, tanh = functions("exact")
    np.testing.assert_allclose(sigmoid(Z), exact_sigmoid(np.asarray(Z, np.float64)), atol=1e-6)
    np.testing.assert_allclose(tanh(Z), np.tanh(np.asarray(Z, np.float64)), atol=1e-6)


def test_far_outside_the_table_the_last_point_holds() -> None:
    end = float(exact_sigmoid(np.array(8.0)))
    found = piecewise_sigmoid(jnp.array([8.0, 1e6, jnp.inf, -1e6, -jnp.inf]), 32)
    np.testing.assert_allclose(found, [end, end, end, 1 - end, 1 - end], atol=1e-7)


# z, clip(z/4 + 1/2, 0, 1), clip(z, -1, 1)
HARD = [
    (-9.0, 0.0, -1.0),
    (-2.0, 0.0, -1.0),
    (-1.5, 0.125, -1.0),
    (-1.0, 0.25, -1.0),
    (-0.5, 0.375, -0.5),
    (0.0, 0.5, 0.0),
    (0.25, 0.5625, 0.25),
    (1.0, 0.75, 1.0),
    (1.75, 0.9375, 1.0),
    (2.0, 1.0, 1.0),
    (2.5, 1.0, 1.0),
]


def test_hard_functions_are_clipped_lines() -> None:
    z, sigmoid, tanh = (jnp.asarray(column) for column in zip(*HARD, strict=True))
    np.testing.assert_array_equal(hard_sigmoid(z), sigmoid)
    np.testing.assert_array_equal(hard_tanh(z), tanh)
    for found, expected in zip(functions("hard"), (hard_sigmoid, hard_tanh), strict=True):
        np.testing.assert_array_equal(found(Z), expected(Z))


def test_the_gradient_of_hard_functions_is_that_of_the_smooth_ones() -> None:
    for function, smooth in zip(functions("hard"), (jax.nn.sigmoid, jnp.tanh), strict=True):
        found, expected = (jax.grad(lambda z, f=f: jnp.sum(f(z)))(Z) for f in (function, smooth))
        np.testing.assert_allclose(found, expected, atol=1e-7)
        assert np.abs(np.asarray(expected)).max() > 0.2
