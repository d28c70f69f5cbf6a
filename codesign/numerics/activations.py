"""Sigmoid and tanh, exact or in straight segments as a small table in hardware computes them.

The piecewise form interpolates the sigmoid at equally spaced points of 0 <= z < 8 and uses
sigmoid(-z) = 1 - sigmoid(z) and tanh(z) = 2 sigmoid(2z) - 1. It is used in the forward pass only;
the gradient is that of the smooth function (Wang, Lin, Wang, TVLSI 2017: approximated forward,
retrained).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from codesign.numerics.fixed_point import straight_through

RANGE = 8.0  # beyond it the sigmoid is within 3.4e-4 of 1

Function = Callable[[jax.Array], jax.Array]


def functions(segments: int) -> tuple[Function, Function]:
    """The pair (sigmoid, tanh) in so many segments; 0 segments mean the exact functions."""
    if segments == 0:
        return jax.nn.sigmoid, jnp.tanh

    def sigmoid(z: jax.Array) -> jax.Array:
        return straight_through(jax.nn.sigmoid(z), piecewise_sigmoid(z, segments))

    def tanh(z: jax.Array) -> jax.Array:
        return straight_through(jnp.tanh(z), 2.0 * piecewise_sigmoid(2.0 * z, segments) - 1.0)

    return sigmoid, tanh


def piecewise_sigmoid(z: jax.Array, segments: int) -> jax.Array:
    """Linear interpolation between segments + 1 points, each taken from the sigmoid itself.

    The two end points of a segment are computed, not looked up: the values are those of a table, and
    gathering from one inside the time loop costs more than two sigmoids.
    """
    width = RANGE / segments
    position = jnp.minimum(jnp.abs(z) / width, segments)
    left = jnp.minimum(jnp.floor(position), segments - 1)
    low, high = jax.nn.sigmoid(left * width), jax.nn.sigmoid((left + 1.0) * width)
    upper = low + (high - low) * (position - left)
    return jnp.where(z < 0, 1.0 - upper, upper)
