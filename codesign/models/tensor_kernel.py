"""A kernel that is a network of small factors, contracted with its input and never built.

The factors stand one after the other in one vector of words: quantized as a whole, then cut. The
order of contraction is the cheapest for all inputs of a pass at once, so what depends on the words
alone is done once.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from codesign.compression import TensorNetwork, TensorStructure
from codesign.compression.tensor import contract
from codesign.design import WeightFormat
from codesign.models.kernel import StoredWords

TYPICAL_BATCH = 1024  # inputs of a pass, for which the order of contraction is chosen


class TensorProduct:
    """The right-hand side of `x @ kernel`: (..., cols) -> (..., gates * rows)."""

    def __init__(self, network: TensorNetwork, factors: list[jax.Array], gates: int, rows: int, cols: int) -> None:
        self.network, self.factors, self.gates, self.rows, self.cols = network, factors, gates, rows, cols

    def __rmatmul__(self, x: jax.Array) -> jax.Array:
        """The product, contracted two by two."""
        short = self.network.volume(self.network.inputs) - self.cols
        padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, short)])
        modes = padded.reshape(*x.shape[:-1], *self.network.shape(self.network.inputs))
        y = contract(self.network.steps(TYPICAL_BATCH), [*self.factors, modes], jnp.einsum)
        y = y.reshape(*x.shape[:-1], self.gates, -1)[..., : self.rows]
        return y.reshape(*x.shape[:-1], self.gates * self.rows)

    def __getitem__(self, tokens: jax.Array) -> jax.Array:
        """The rows of the kernel that one-hot vectors pick, as of an array: each is computed once, then looked up."""
        return (jnp.eye(self.cols) @ self)[tokens]


class TensorKernel(StoredWords):
    """The matrices of all gates of one kernel in tensor form; arguments as of `CompressedKernel`."""

    def __init__(
        self,
        structure: TensorStructure,
        weight_format: WeightFormat,
        *,
        gates: int,
        rows: int,
        cols: int,
        key: jax.Array,
        gain: float = 1.0,
    ) -> None:
        self.network: TensorNetwork = structure.network(gates, rows, cols)
        self.size: tuple[int, int, int] = (gates, rows, cols)
        n_words, bound = self.network.n_words, structure.bound(gates, rows, cols, gain)
        words = jax.random.uniform(key, (n_words,), minval=-bound, maxval=bound)
        self.hold(words, jnp.ones(n_words), weight_format, scale=0.5 * bound)

    def matrix(self, key: jax.Array | None = None) -> Any:
        """What stands right of `x @`: the kernel (cols, gates * rows), never built."""
        words = self.written(key)
        sizes = [self.network.volume(factor) for factor in self.network.factors]
        parts = jnp.split(words, np.cumsum(sizes)[:-1])
        shapes = [self.network.shape(factor) for factor in self.network.factors]
        factors = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
        return TensorProduct(self.network, factors, *self.size)
