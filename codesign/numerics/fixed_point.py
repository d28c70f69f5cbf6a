"""Fixed-point numbers: rounding, saturation and power-of-two scales, defined once.

A word of `bits` bits with exponent e is an integer n, -2^(bits-1) <= n <= 2^(bits-1) - 1, that
stands for n * 2^e. Rounding is half up, floor(x + 1/2): what an adder and a shift do in hardware.
Computed in float32, the number just below one half (0.49999997) goes up as well; sums of fixed-point
products, which have few fractional bits, never meet it. Values beyond the range saturate. Word length
and exponent may be traced, so that one compiled program serves every word length; `bits = 0` stands
for 32-bit float and changes nothing.
"""

import jax
import jax.numpy as jnp

EXPONENT_BIAS = 127  # of float32 (IEEE 754)
MANTISSA_BITS = 23


@jax.custom_jvp
def straight_through(smooth: jax.Array, exact: jax.Array) -> jax.Array:
    """The value of `exact` with the gradient of `smooth`; no rounding error creeps in."""
    return exact


@straight_through.defjvp
def _straight_through_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    return primals[1], tangents[0]


def to_integer(x: jax.Array, bits: jax.Array | int, exponent: jax.Array | int) -> jax.Array:
    """The integer word of x, as a whole number in float32 (exact up to 24 bits)."""
    half = power_of_two(jnp.asarray(bits) - 1)
    return jnp.clip(jnp.floor(x * power_of_two(-jnp.asarray(exponent)) + 0.5), -half, half - 1)


def quantize(x: jax.Array, bits: jax.Array | int, exponent: jax.Array | int) -> jax.Array:
    """The nearest representable value; x itself where bits is 0. Gradient: straight through."""
    value = to_integer(x, bits, exponent) * power_of_two(exponent)
    return straight_through(x, jnp.where(jnp.asarray(bits) > 0, value, x))


def quantize_unit(x: jax.Array, bits: jax.Array | int) -> jax.Array:
    """Quantize to bits - 1 fractional bits: the format of activations, which lie in [-1, 1)."""
    return quantize(x, bits, 1 - jnp.asarray(bits))


def power_of_two(exponent: jax.Array | int) -> jax.Array:
    """2^exponent, exactly (exp2 is not exact in XLA); 0 below -126, and 2^127 from 127 on.

    Written as the bits of the float: jnp.ldexp takes many times longer to compile.
    """
    biased = jnp.clip(jnp.asarray(exponent, jnp.int32) + EXPONENT_BIAS, 0, 2 * EXPONENT_BIAS)
    return jax.lax.bitcast_convert_type(biased << MANTISSA_BITS, jnp.float32)
