"""How the stored words of a kernel are written.

    float          as they are
    fixed          n * 2^e, an integer n of `bits` bits, one exponent e a kernel
    power_of_two   0 or +-2^e, `bits` bits: the sign and one of 2^(bits-1) - 1 exponents below the largest
    binary         +-a                 (a: one constant a kernel, never learned)
    ternary        -a, 0 or +a

Every format is a function of float master words with a straight-through gradient. Binary and ternary
words are either drawn, P(+a) = clip((w/a + 1)/2, 0, 1) and P(not 0) = clip(|w|/a, 0, 1), or decided: the
sign of w, and zero where |w| <= a/3. Format, word length and a are traced, so that one compiled program
serves them all.

References:
    Wang, Lin, Wang, IEEE TVLSI 2017 (uniform and power-of-two words, retrained).
    Ardakani et al., "Learning Recurrent Binary/Ternary Weights", ICLR 2019; decisions and draws as in
        the released code (not clipped: the masters, and their gradient).
"""

from enum import IntEnum
from typing import NamedTuple

import jax
import jax.numpy as jnp

from codesign.numerics.fixed_point import power_of_two, quantize, straight_through, to_integer

N_EXPONENTS = 3  # scales tried
SMALLEST_EXPONENT = -90  # of a range; scales and their inverses stay within float32
BIAS_BITS = 16  # word length of biases beside fixed-point weights
TERNARY_ZERO = 1.0 / 3.0  # of a: what is no larger is decided to be zero


class Code(IntEnum):
    """The formats as the traced step knows them."""

    FLOAT = 0
    FIXED = 1
    POWER_OF_TWO = 2
    BINARY = 3
    TERNARY = 4


class WordFormat(NamedTuple):
    """A format as traced numbers.

    Attributes:
        code: one of `Code`.
        bits: word length of fixed and power-of-two words.
        scale: the constant a of binary and ternary words.
    """

    code: jax.Array
    bits: jax.Array
    scale: jax.Array


def best_exponent(words: jax.Array, live: jax.Array, bits: jax.Array) -> jax.Array:
    """Of three power-of-two scales the one with the least squared error over the live words.

    Tried are the scale whose range just covers the largest word (which alone may saturate by up to a
    step), and those of one and two bits less range.

    Args:
        words: (n,) float master weights.
        live: (n,) True where a word is used; the others are padding and must not count.
        bits: word length, 2 or more (traced).

    Returns:
        The exponent e of the scale 2^e, an int32 scalar.
    """
    candidates = _covering_exponent(words, live) - (bits - 1) - jnp.arange(N_EXPONENTS)

    def squared_error(exponent: jax.Array) -> jax.Array:
        value = to_integer(words, bits, exponent) * power_of_two(exponent)
        return jnp.sum(live * (words - value) ** 2)

    errors = jnp.stack([squared_error(candidate) for candidate in candidates])
    return candidates[jnp.argmin(errors)]


def quantize_words(
    words: jax.Array, live: jax.Array, word_format: WordFormat, key: jax.Array | None = None
) -> jax.Array:
    """Words as the format writes them, straight-through gradient.

    Args:
        words, live: as of `best_exponent`.
        key: of the draw of binary and ternary words; None decides them.
    """
    bits, scale = word_format.bits, word_format.scale

    branches = (
        lambda words: words,
        lambda words: fixed(words, live, bits),
        lambda words: nearest_power_of_two(words, live, bits),
        lambda words: binary(words, scale, key),
        lambda words: ternary(words, scale, key),
    )
    written = jax.lax.switch(word_format.code, branches, jax.lax.stop_gradient(words))
    return straight_through(words, written)


def fixed(words: jax.Array, live: jax.Array, bits: jax.Array | int) -> jax.Array:
    """n * 2^e at the best exponent; arguments as of `best_exponent`."""
    return quantize(words, bits, best_exponent(words, live, jnp.maximum(bits, 2)))


def nearest_power_of_two(words: jax.Array, live: jax.Array, bits: jax.Array) -> jax.Array:
    """0 or +-2^e, whichever is nearest, with 2^(bits-1) - 1 exponents of which the largest covers the words.

    A word between 2^(e-1) and 2^e goes to the nearer, so the border is 3/4 of 2^e; below the smallest
    power the border to zero is its half.
    """
    bottom, top = exponent_range(words, live, bits)
    exponent = jnp.minimum(_exponent_of_nearest(jnp.abs(words)), top)
    level = power_of_two(jnp.maximum(exponent, bottom))
    return jnp.where(jnp.abs(words) < power_of_two(bottom - 1), 0.0, jnp.sign(words) * level)


def exponent_range(words: jax.Array, live: jax.Array, bits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Smallest and largest exponent of power-of-two words; arguments as of `best_exponent`."""
    top = jnp.maximum(_exponent_of_nearest(jnp.max(jnp.abs(words) * live)), SMALLEST_EXPONENT)
    return top - ((1 << (bits - 1)) - 2), top


def binary(words: jax.Array, scale: jax.Array, key: jax.Array | None) -> jax.Array:
    """+-scale: the sign of each word, or drawn with P(+) = clip((w/scale + 1)/2, 0, 1)."""
    if key is None:
        return jnp.where(words >= 0, scale, -scale)
    positive = jnp.clip(0.5 * (words / scale + 1.0), 0.0, 1.0)
    return jnp.where(jax.random.uniform(key, words.shape) < positive, scale, -scale)


def ternary(words: jax.Array, scale: jax.Array, key: jax.Array | None) -> jax.Array:
    """-scale, 0 or +scale: thresholds at a third of the scale, or drawn with P(not 0) = clip(|w|/scale, 0, 1)."""
    size = jnp.abs(words) / scale
    kept = size > TERNARY_ZERO if key is None else jax.random.uniform(key, words.shape) < size
    return jnp.where(kept, jnp.sign(words) * scale, 0.0)


def _covering_exponent(words: jax.Array, live: jax.Array) -> jax.Array:
    """The smallest e with every live |word| <= 2^e."""
    _, top = jnp.frexp(jnp.max(jnp.abs(words) * live))
    return jnp.maximum(top, SMALLEST_EXPONENT)


def _exponent_of_nearest(sizes: jax.Array) -> jax.Array:
    """Of the power of two nearest to each size (above zero), halves going up."""
    fraction, exponent = jnp.frexp(sizes)  # fraction in [1/2, 1)
    return jnp.where(fraction >= 0.75, exponent, exponent - 1)
