"""Rounding, saturation and scales of fixed-point numbers against exact fractions."""

from fractions import Fraction
from math import floor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.numerics.fixed_point import power_of_two, quantize, quantize_unit, straight_through, to_integer

# In units of the step, for 4 bits: half goes up, and what lies beyond -8 ... 7 saturates.
ROUNDING = [
    (-100.0, -8),
    (-8.5, -8),
    (-7.5, -7),
    (-7.51, -8),
    (-2.5, -2),
    (-1.5, -1),
    (-0.51, -1),
    (-0.5, 0),
    (-0.49, 0),
    (0.0, 0),
    (0.49, 0),
    (0.5, 1),
    (1.49, 1),
    (1.5, 2),
    (2.5, 3),
    (6.5, 7),
    (7.49, 7),
    (7.5, 7),
    (100.0, 7),
]

bits = st.integers(3, 16)
exponents = st.integers(-20, 4)
ties = st.builds(lambda n: n / 4, st.integers(-200, 200))
values = st.one_of(ties, st.floats(-100, 100, width=32, allow_subnormal=False))


def exact(x: float, bits: int, exponent: int) -> Fraction:
    """The fixed-point value of x by its definition, without any rounding error."""
    n = floor(Fraction(x) / Fraction(2) ** exponent + Fraction(1, 2))
    return max(-(2 ** (bits - 1)), min(2 ** (bits - 1) - 1, n)) * Fraction(2) ** exponent


def scaled(n: float, exponent: int) -> float:
    return float(n * Fraction(2) ** exponent)


@pytest.mark.parametrize("exponent", [-7, 0, 5])
@pytest.mark.parametrize(("x", "expected"), ROUNDING)
def test_rounding_is_half_up_and_saturates(x: float, expected: int, exponent: int) -> None:
    assert float(to_integer(jnp.float32(scaled(x, exponent)), 4, exponent)) == expected


@given(values, bits, exponents)
def test_a_value_equals_exact_arithmetic(x: float, bits: int, exponent: int) -> None:
    assert Fraction(float(quantize(jnp.float32(x), bits, exponent))) == exact(x, bits, exponent)


def test_only_the_number_just_below_a_half_rounds_up_with_it() -> None:
    below = np.nextafter(np.float32(0.5), np.float32(0.0))
    assert float(quantize(jnp.float32(below), 4, 0)) == 1.0  # documented: the sum is 1.0 in float32
    assert float(quantize(jnp.float32(np.nextafter(below, np.float32(0.0))), 4, 0)) == 0.0


@given(values, bits, exponents)
def test_quantizing_again_changes_nothing(x: float, bits: int, exponent: int) -> None:
    once = quantize(jnp.float32(x), bits, exponent)
    assert float(quantize(once, bits, exponent)) == float(once)


@given(values, values, bits, exponents)
def test_order_is_kept(x: float, y: float, bits: int, exponent: int) -> None:
    low, high = (quantize(jnp.float32(value), bits, exponent) for value in sorted((x, y)))
    assert low <= high


@given(st.floats(0, 1, width=32, allow_subnormal=False), bits, exponents)
def test_inside_the_range_the_error_is_at_most_half_a_step(share: float, bits: int, exponent: int) -> None:
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    x = float(np.float32(scaled(lowest + share * (highest - lowest), exponent)))
    error = Fraction(float(quantize(jnp.float32(x), bits, exponent))) - Fraction(x)
    assert abs(error) <= Fraction(2) ** exponent / 2


@given(values)
def test_no_bits_mean_float_and_change_nothing(x: float) -> None:
    assert float(quantize(jnp.float32(x), 0, 3)) == float(quantize_unit(jnp.float32(x), 0)) == np.float32(x)


@pytest.mark.parametrize("bits", range(3, 17))
def test_the_unit_format_ends_one_step_below_one(bits: int) -> None:
    ends = quantize_unit(jnp.array([-1.0, 1.0, -5.0, 5.0]), bits)
    assert ends.tolist() == [-1.0, 1.0 - 2.0 ** (1 - bits)] * 2


@pytest.mark.parametrize("bits", [0, 3, 8, 16])
def test_traced_word_length_and_exponent_give_the_same(bits: int) -> None:
    x = jnp.linspace(-3.0, 3.0, 1001)
    for exponent in (-14, -2, 0):
        compiled = _quantize_compiled(x, jnp.int32(bits), jnp.int32(exponent))
        np.testing.assert_array_equal(compiled, quantize(x, bits, exponent))


_quantize_compiled = jax.jit(quantize)


def test_straight_through_has_the_value_of_one_and_the_gradient_of_the_other() -> None:
    x = jnp.array([-3.0, 0.1, 0.3, 7.0])
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(straight_through(x**2, jnp.floor(x))))(x)
    assert float(value) == -3.0 + 0.0 + 0.0 + 7.0
    np.testing.assert_allclose(gradient, 2.0 * x)


def test_straight_through_adds_no_rounding_error() -> None:
    # The usual smooth + stop_gradient(exact - smooth) gives 0 here.
    assert float(straight_through(jnp.float32(1e8), jnp.float32(0.1))) == np.float32(0.1)


@pytest.mark.parametrize("bits", [0, 3, 8])
def test_the_gradient_of_quantize_is_one_even_where_it_saturates(bits: int) -> None:
    x = jnp.array([-9.0, -0.3, 0.0, 0.26, 9.0])
    gradient = jax.grad(lambda x: jnp.sum(quantize_unit(x, bits)))(x)
    assert gradient.tolist() == [1.0] * 5


def test_powers_of_two_are_exact() -> None:
    exponents = range(-30, 31)
    found = power_of_two(jnp.array(exponents))
    assert [Fraction(float(value)) for value in found] == [Fraction(2) ** exponent for exponent in exponents]
