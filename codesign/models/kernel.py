"""A compressed weight matrix: W = mask * quantize(words)[ids].

One quantization for each *stored* word, then the gather: quantizing after the gather would break
the circulant structure as soon as rounding is random, and scale statistics would count a word as
often as it is used. Structure and word length are traced data, so that one compiled step serves
every structure and every word length: the vector of words is padded to the dense count. Trained are
the live words in the order of the structure's own; `stored` says which of its words each one is.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from codesign.compression import Layout, Structure
from codesign.design import Fixed, Float
from codesign.numerics.weight_formats import BIAS_BITS, quantize_words


class Traced(nnx.Variable[jax.Array]):
    """Data of a network that are not trained and must not become constants of the program."""


def bits_of(number_format: Float | Fixed) -> int:
    """Word length as the traced step expects it: 0 for float."""
    return number_format.bits if isinstance(number_format, Fixed) else 0


def gate_layouts(structure: Structure, gates: int, rows: int, cols: int, seed: int) -> Layout:
    """The layouts of `gates` matrices, one below the other: (gates * rows, cols)."""
    layouts = [structure.layout(rows, cols, seed * gates + gate) for gate in range(gates)]
    offsets = np.cumsum([0, *(layout.n_words for layout in layouts)])
    ids = np.concatenate([layout.ids + offset for layout, offset in zip(layouts, offsets, strict=False)])
    return Layout(ids.astype(np.int32), np.concatenate([y.mask for y in layouts]), int(offsets[-1]))


class CompressedKernel(nnx.Module):
    """The matrices of all gates of one kernel.

    Args:
        structure: of each gate's (rows, cols) matrix.
        number_format: of the stored words.
        gates, rows, cols: the kernel is used as (cols, gates * rows).
        key: draws the words, uniform in +-sqrt(gain * 3 / non-zeros of a row), so that a row's output
            has variance gain times the mean square of its input, whatever the structure.
        seed: draws what the structure leaves to chance.
        gain: see key.
        always_dense: whether no other structure is ever meant, which saves the gather.
    """

    def __init__(
        self,
        structure: Structure,
        number_format: Float | Fixed,
        *,
        gates: int,
        rows: int,
        cols: int,
        key: jax.Array,
        seed: int,
        gain: float = 1.0,
        always_dense: bool = False,
    ) -> None:
        layout = gate_layouts(structure, gates, rows, cols, seed)
        n_words = gates * rows * cols  # of a dense kernel, the most that can be live
        # Padding makes some structures store words that no element uses: only live ones are trained.
        stored, ids = np.unique(layout.ids[layout.mask], return_inverse=True)
        live_ids = np.zeros_like(layout.ids)
        live_ids[layout.mask] = ids
        row_nonzeros = max(1.0, float(layout.mask.sum()) / (gates * rows))
        bound = float(np.sqrt(3.0 * gain / row_nonzeros))
        live = np.arange(n_words) < len(stored)
        self.dense_shape = (gates * rows, cols) if always_dense else None
        self.words = nnx.Param(jax.random.uniform(key, (n_words,), minval=-bound, maxval=bound) * live)
        self.ids = Traced(jnp.asarray(live_ids.T))
        self.mask = Traced(jnp.asarray(layout.mask.T, jnp.float32))
        self.live = Traced(jnp.asarray(live, jnp.float32))
        self.stored = Traced(jnp.asarray(np.pad(stored, (0, n_words - len(stored))), jnp.int32))
        self.n_stored = Traced(jnp.asarray(layout.n_words, jnp.int32))
        self.bits = Traced(jnp.asarray(bits_of(number_format), jnp.int32))

    def matrix(self) -> jax.Array:
        """The kernel as the products see it: (cols, gates * rows)."""
        words = quantize_words(self.words[...], self.live[...], self.bits[...])
        if self.dense_shape:
            return words.reshape(self.dense_shape).T
        return self.mask[...] * words[self.ids[...]]


def written_bias(bias: jax.Array, bits: jax.Array) -> jax.Array:
    """A bias as memory holds it: 16-bit words with a scale of their own beside fixed-point kernels.

    Args:
        bias: (n,) float masters.
        bits: word length of the kernel beside it, 0 for float.
    """
    return quantize_words(bias, jnp.ones_like(bias), jnp.where(bits > 0, BIAS_BITS, 0))
