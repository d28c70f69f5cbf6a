"""How weights are written: the choice of the scale, and what it does to the words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from codesign.numerics.weight_formats import N_EXPONENTS, best_exponent, quantize_words

N = 24
ALIVE = jnp.ones(N)

bits = st.integers(3, 16)
words = st.one_of(
    st.lists(
        st.floats(-4, 4, width=32, allow_subnormal=False).filter(lambda w: w == 0 or abs(w) > 1e-6),
        min_size=N,
        max_size=N,
    ),
    st.builds(lambda seed, scale: normal(seed, 2.0**scale).tolist(), st.integers(0, 999), st.integers(-12, 4)),
)
compiled_exponent = jax.jit(best_exponent)
compiled_words = jax.jit(quantize_words)


def normal(seed: int, scale: float = 1.0) -> NDArray[np.float32]:
    return (scale * np.random.default_rng(seed).normal(size=N)).astype(np.float32)


def squared_error(words: NDArray[np.float64], bits: int, exponent: int) -> float:
    half = 2.0 ** (bits - 1)
    integers = np.clip(np.floor(words / 2.0**exponent + 0.5), -half, half - 1)
    return float(np.sum((words - integers * 2.0**exponent) ** 2))


def candidates(words: NDArray[np.float64], bits: int) -> list[int]:
    """Scales whose range just holds the largest word, and the next finer ones."""
    top = int(np.frexp(np.abs(words).max())[1])
    return [top - (bits - 1) - finer for finer in range(N_EXPONENTS)]


@given(words, bits)
def test_the_scale_is_the_best_of_its_candidates(words: list[float], bits: int) -> None:
    exact = np.array(words, np.float32).astype(np.float64)
    found = int(compiled_exponent(jnp.array(words, jnp.float32), ALIVE, bits))
    assert found in candidates(exact, bits)
    best = min(squared_error(exact, bits, exponent) for exponent in candidates(exact, bits))
    assert squared_error(exact, bits, found) <= best * (1 + 1e-5) + 1e-30


@pytest.mark.parametrize("dead", [0.0, 1e3, -77.7])
def test_words_that_are_not_used_do_not_move_the_scale(dead: float) -> None:
    live = np.arange(N) % 3 > 0
    for seed in range(20):
        for bits in (3, 8):
            padded = jnp.asarray(np.where(live, normal(seed), dead), jnp.float32)
            used = normal(seed)[live].astype(np.float64)
            best = min(candidates(used, bits), key=lambda exponent: squared_error(used, bits, exponent))
            assert int(compiled_exponent(padded, jnp.asarray(live, jnp.float32), bits)) == best


def test_a_few_large_words_are_cut_for_finer_steps() -> None:
    words = jnp.array([1.0] + [0.1, 0.2] * 500)
    assert int(best_exponent(words, jnp.ones(1001), jnp.int32(3))) == 1 - 2 - 2


@given(words, bits)
def test_quantized_words_are_not_changed_by_quantizing_again(words: list[float], bits: int) -> None:
    once = compiled_words(jnp.array(words, jnp.float32), ALIVE, bits)
    np.testing.assert_array_equal(compiled_words(once, ALIVE, bits), once)


@given(words, bits)
def test_words_are_multiples_of_the_scale_within_the_word_length(words: list[float], bits: int) -> None:
    array = jnp.array(words, jnp.float32)
    exponent = int(compiled_exponent(array, ALIVE, bits))
    integers = np.asarray(compiled_words(array, ALIVE, bits), np.float64) / 2.0**exponent
    np.testing.assert_array_equal(integers, np.round(integers))
    assert -(2 ** (bits - 1)) <= integers.min() <= integers.max() <= 2 ** (bits - 1) - 1


@given(words)
def test_float_words_stay_as_they_are(words: list[float]) -> None:
    array = jnp.array(words, jnp.float32)
    np.testing.assert_array_equal(compiled_words(array, ALIVE, 0), array)


def test_the_gradient_reaches_every_word_unchanged() -> None:
    slope = jnp.asarray(normal(1))
    gradient = jax.grad(lambda w: jnp.sum(slope * quantize_words(w, ALIVE, jnp.int32(4))))(jnp.asarray(normal(0)))
    np.testing.assert_array_equal(gradient, slope)


def test_words_that_are_all_zero_stay_zero() -> None:
    assert not np.asarray(compiled_words(jnp.zeros(N), ALIVE, 8)).any()


def test_tiny_words_stay_finite() -> None:
    words = jnp.zeros(N).at[0].set(1e-36)
    assert np.isfinite(np.asarray(compiled_words(words, ALIVE, 8))).all()
