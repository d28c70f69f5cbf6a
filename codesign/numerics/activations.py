"""Sigmoid and tanh: exact, in straight segments as a small table in hardware computes them, or clipped lines.

The piecewise form interpolates the sigmoid at equally spaced points of 0 <= z < 8 and uses
sigmoid(-z) = 1 - sigmoid(z) and tanh(z) = 2 sigmoid(2z) - 1. The hard form needs a shift only:
sigmoid(z) = clip(z/4 + 1/2, 0, 1), tanh(z) = clip(z, -1, 1) (the paper's own segments are not public).
Both are used in the forward pass only; the gradient is that of the smooth function (Wang, Lin, Wang,
TVLSI 2017: approximated forward, retrained).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from codesign.numerics.fixed_point import straight_through

RANGE = 8.0  # beyond it the sigmoid is within 3.4e-4 of 1

Function = Callable[[jax.Array], jax.Array]
Functions = tuple[Function, Function]
"""Sigmoid and tanh."""


def functions(kind: str, segments: int = 0) -> Functions:
    """The pair (sigmoid, tanh) of a kind: "exact", "hard", or "piecewise_linear" in so many segments."""
    if kind == "exact":
        return jax.nn.sigmoid, jnp.tanh
    if kind == "hard":
        return hard_sigmoid, hard_tanh

    def sigmoid(z: jax.Array) -> jax.Array:
        return straight_through(jax.nn.sigmoid(z), piecewise_sigmoid(z, segments))

    def tanh(z: jax.Array) -> jax.Array:
        return straight_through(jnp.tanh(z), 2.0 * piecewise_sigmoid(2.0 * z, segments) - 1.0)

    return sigmoid, tanh


def hard_sigmoid(z: jax.Array) -> jax.Array:
    """clip(z/4 + 1/2, 0, 1): a shift and an addition."""
    return straight_through(jax.nn.sigmoid(z), jnp.clip(0.25 * z + 0.5, 0.0, 1.0))


def hard_tanh(z: jax.Array) -> jax.Array:
    """clip(z, -1, 1)."""
    return straight_through(jnp.tanh(z), jnp.clip(z, -1.0, 1.0))


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
