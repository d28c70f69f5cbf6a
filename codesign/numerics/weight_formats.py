"""How the stored words of a kernel are written: float, or fixed point with a scale of their own."""

import jax
import jax.numpy as jnp

from codesign.numerics.fixed_point import power_of_two, quantize, to_integer

N_EXPONENTS = 3  # scales tried
SMALLEST_EXPONENT = -90  # of a range; scales and their inverses stay within float32
BIAS_BITS = 16  # word length of biases beside fixed-point weights


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
    _, top = jnp.frexp(jnp.max(jnp.abs(words) * live))  # every |word| <= 2^top
    top = jnp.maximum(top, SMALLEST_EXPONENT)
    candidates = top - (bits - 1) - jnp.arange(N_EXPONENTS)

    def squared_error(exponent: jax.Array) -> jax.Array:
        value = to_integer(words, bits, exponent) * power_of_two(exponent)
        return jnp.sum(live * (words - value) ** 2)

    errors = jnp.stack([squared_error(candidate) for candidate in candidates])
    return candidates[jnp.argmin(errors)]


def quantize_words(words: jax.Array, live: jax.Array, bits: jax.Array) -> jax.Array:
    """Words as the format writes them, straight-through gradient; unchanged where bits is 0."""
    exponent = jax.lax.stop_gradient(best_exponent(words, live, jnp.maximum(bits, 2)))
    return quantize(words, bits, exponent)
