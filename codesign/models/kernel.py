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
from codesign.design import Binary, Fixed, PowerOfTwo, Ternary, WeightFormat
from codesign.numerics.fixed_point import straight_through
from codesign.numerics.weight_formats import BIAS_BITS, Code, WordFormat, fixed, quantize_words


class Traced(nnx.Variable[jax.Array]):
    """Data of a network that are not trained and must not become constants of the program."""


def bits_of(weight_format: WeightFormat) -> int:
    """Word length as the traced step expects it: 0 where there is none to choose."""
    return weight_format.bits if isinstance(weight_format, Fixed | PowerOfTwo) else 0


def glorot_half(n_inputs: float, n_outputs: int) -> float:
    """The constant of binary and ternary words: half the bound of Glorot's uniform initial words."""
    return 0.5 * float(np.sqrt(6.0 / (n_inputs + n_outputs)))


def gate_layouts(structure: Structure, gates: int, rows: int, cols: int, seed: int) -> Layout:
    """The layouts of `gates` matrices, one below the other: (gates * rows, cols)."""
    layouts = [structure.layout(rows, cols, seed * gates + gate) for gate in range(gates)]
    offsets = np.cumsum([0, *(layout.n_words for layout in layouts)])
    ids = np.concatenate([layout.ids + offset for layout, offset in zip(layouts, offsets, strict=False)])
    return Layout(ids.astype(np.int32), np.concatenate([y.mask for y in layouts]), int(offsets[-1]))


class StoredWords(nnx.Module):
    """Words of one format: float masters, and what memory holds of them."""

    def hold(self, words: jax.Array, live: jax.Array, weight_format: WeightFormat, scale: float) -> None:
        """Take masters.

        Args:
            words: (n,) masters.
            live: (n,) 1 where a word is used, 0 in padding.
            scale: the constant of binary and ternary words.
        """
        self.words = nnx.Param(words)
        self.live = Traced(live)
        self.code = Traced(jax.device_put(np.int32(Code[weight_format.kind.upper()])))
        self.bits = Traced(jax.device_put(np.int32(bits_of(weight_format))))
        self.scale = Traced(jax.device_put(np.float32(scale)))
        self.stochastic: bool = isinstance(weight_format, Binary | Ternary) and weight_format.stochastic

    def written(self, key: jax.Array | None = None) -> jax.Array:
        """(n,) words as memory holds them.

        Args:
            key: draws stochastic words, one draw for each; None decides them.
        """
        word_format = WordFormat(self.code[...], self.bits[...], self.scale[...])
        return quantize_words(self.words[...], self.live[...], word_format, key if self.stochastic else None)


class CompressedKernel(StoredWords):
    """The matrices of all gates of one kernel.

    Args:
        structure: of each gate's (rows, cols) matrix.
        weight_format: of the stored words.
        gates, rows, cols: the kernel is used as (cols, gates * rows).
        key: draws the words, uniform in +-sqrt(gain * 3 / non-zeros of a row), so that a row's output
            has variance gain times the mean square of its input, whatever the structure; the masters
            of binary and ternary words in twice their constant.
        seed: draws what the structure leaves to chance.
        gain: see key.
        always_dense: whether no other structure is ever meant, which saves the gather.
    """

    def __init__(
        self,
        structure: Structure,
        weight_format: WeightFormat,
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
        scale = glorot_half(row_nonzeros, gates * rows)
        few = isinstance(weight_format, Binary | Ternary)
        bound = 2.0 * scale if few else float(np.sqrt(3.0 * gain / row_nonzeros))
        live = np.arange(n_words) < len(stored)
        self.dense_shape = (gates * rows, cols) if always_dense else None
        words = np.asarray(jax.random.uniform(key, (n_words,), minval=-bound, maxval=bound)) * live
        self.hold(jax.device_put(words), jax.device_put(live.astype(np.float32)), weight_format, scale)
        self.ids = Traced(jax.device_put(live_ids.T))
        self.mask = Traced(jax.device_put(layout.mask.T.astype(np.float32)))
        self.stored = Traced(jax.device_put(np.pad(stored, (0, n_words - len(stored))).astype(np.int32)))
        self.n_stored = Traced(jax.device_put(np.int32(layout.n_words)))

    def matrix(self, key: jax.Array | None = None) -> jax.Array:
        """The kernel as the products see it: (cols, gates * rows); `key` as of `written`."""
        words = self.written(key)
        if self.dense_shape:
            return words.reshape(self.dense_shape).T
        return self.mask[...] * words[self.ids[...]]


def written_bias(bias: jax.Array, beside: StoredWords) -> jax.Array:
    """A bias as memory holds it: float beside a float kernel, else 16-bit words with a scale of their own.

    Args:
        bias: (n,) float masters.
        beside: the kernel whose products it is added to.
    """
    words = jax.lax.stop_gradient(bias)
    written = fixed(words, jnp.ones_like(words), BIAS_BITS)
    return straight_through(bias, jnp.where(beside.code[...] == Code.FLOAT, words, written))
