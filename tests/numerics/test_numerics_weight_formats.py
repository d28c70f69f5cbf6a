"""How weights are written: the choice of the scale, and what it does to the words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from codesign.numerics.weight_formats import N_EXPONENTS, Code, WordFormat, best_exponent, quantize_words

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


def word_format(code: Code, bits: int = 0, scale: float = 1.0) -> WordFormat:
    return WordFormat(jnp.int32(code), jnp.int32(bits), jnp.float32(scale))


def fixed(bits: int) -> WordFormat:
    return word_format(Code.FIXED, bits)


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
    once = compiled_words(jnp.array(words, jnp.float32), ALIVE, fixed(bits))
    np.testing.assert_array_equal(compiled_words(once, ALIVE, fixed(bits)), once)


@given(words, bits)
def test_words_are_multiples_of_the_scale_within_the_word_length(words: list[float], bits: int) -> None:
    array = jnp.array(words, jnp.float32)
    exponent = int(compiled_exponent(array, ALIVE, bits))
    integers = np.asarray(compiled_words(array, ALIVE, fixed(bits)), np.float64) / 2.0**exponent
    np.testing.assert_array_equal(integers, np.round(integers))
    assert -(2 ** (bits - 1)) <= integers.min() <= integers.max() <= 2 ** (bits - 1) - 1


@given(words)
def test_float_words_stay_as_they_are(words: list[float]) -> None:
    array = jnp.array(words, jnp.float32)
    np.testing.assert_array_equal(compiled_words(array, ALIVE, word_format(Code.FLOAT)), array)


EVERY = {
    "float": word_format(Code.FLOAT),
    "fixed": fixed(4),
    "power of two": word_format(Code.POWER_OF_TWO, 3),
    "binary": word_format(Code.BINARY, scale=0.7),
    "ternary": word_format(Code.TERNARY, scale=0.7),
}
every_format = pytest.mark.parametrize("form", EVERY.values(), ids=EVERY)


@pytest.mark.parametrize("key", [None, 3], ids=["decided", "drawn"])
@every_format
def test_the_gradient_reaches_every_word_unchanged(form: WordFormat, key: int | None) -> None:
    slope, drawn = jnp.asarray(normal(1)), None if key is None else jax.random.key(key)
    value = lambda w: jnp.sum(slope * quantize_words(w, ALIVE, form, drawn))  # noqa: E731
    np.testing.assert_array_equal(jax.jit(jax.grad(value))(jnp.asarray(normal(0))), slope)


@pytest.mark.parametrize("form", [fixed(8), word_format(Code.POWER_OF_TWO, 8), word_format(Code.TERNARY)])
def test_words_that_are_all_zero_stay_zero(form: WordFormat) -> None:
    assert not np.asarray(compiled_words(jnp.zeros(N), ALIVE, form)).any()


@pytest.mark.parametrize("code", [Code.FIXED, Code.POWER_OF_TWO])
def test_tiny_words_stay_finite(code: Code) -> None:
    words = jnp.zeros(N).at[0].set(1e-36)
    assert np.isfinite(np.asarray(compiled_words(words, ALIVE, word_format(code, 8)))).all()


def test_fixed_words_are_rounded_half_up_at_the_best_scale() -> None:
    for seed in range(20):
        array = jnp.asarray(normal(seed))
        for bits in (3, 8, 16):
            step = 2.0 ** float(compiled_exponent(array, ALIVE, bits))
            half = 2 ** (bits - 1)
            expected = step * np.clip(np.floor(np.asarray(array, np.float64) / step + 0.5), -half, half - 1)
            np.testing.assert_array_equal(compiled_words(array, ALIVE, fixed(bits)), expected)


def levels(words: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """Zero and all signed powers of two that `bits` bits can tell, the power nearest to the largest word on top."""
    largest = np.abs(words).max()
    powers = 2.0 ** np.arange(-40, 40)
    top = np.log2(powers[np.abs(powers - largest) == np.abs(powers - largest).min()].max())
    n_exponents = 2 ** (bits - 1) - 1
    sizes = 2.0 ** (top - np.arange(n_exponents))
    assert len(sizes) == {2: 1, 3: 3, 4: 7, 5: 15}[bits]
    return np.concatenate([[0.0], sizes, -sizes])


def nearest(words: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """Of all levels the nearest, the larger of two that are equally near."""
    sorted_levels = sorted(levels(words, bits), key=abs, reverse=True)
    return np.array([min(sorted_levels, key=lambda level: abs(level - word)) for word in words])


power_bits = st.integers(2, 5)


@given(words, power_bits)
def test_power_of_two_words_are_the_nearest_of_all_levels(words: list[float], bits: int) -> None:
    exact = np.array(words, np.float32).astype(np.float64)
    if not exact.any():
        exact[0] = 1.0
    found = compiled_words(jnp.asarray(exact, jnp.float32), ALIVE, word_format(Code.POWER_OF_TWO, bits))
    np.testing.assert_array_equal(found, nearest(exact, bits))


def test_borders_between_powers_of_two_go_up() -> None:
    # 3 bits: 1, 1/2, 1/4 and zero; the borders are 3/4, 3/8 and 1/8
    words = [1.49, 0.75, 0.7499, 0.375, 0.3749, 0.125, 0.1249, 0.0]
    expected = [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.0, 0.0]
    both = jnp.asarray([*words, *(-word for word in words)])
    found = compiled_words(both, jnp.ones(16), word_format(Code.POWER_OF_TWO, 3))
    assert found.tolist() == [*expected, *(-level for level in expected)]


@pytest.mark.parametrize("bits", range(2, 9))
def test_power_of_two_words_have_so_many_exponents(bits: int) -> None:
    words = 2.0 ** -jnp.arange(100.0)
    found = np.asarray(compiled_words(words, jnp.ones(100), word_format(Code.POWER_OF_TWO, bits)))
    n_exponents = 2 ** (bits - 1) - 1
    assert len(np.unique(found[found > 0])) == min(100, n_exponents)
    assert found[0] == 1.0 and len(np.unique(np.concatenate([found, -found]))) <= 2**bits


@pytest.mark.parametrize("bits", [2, 4])
def test_power_of_two_words_are_not_changed_by_writing_them_again(bits: int) -> None:
    for seed in range(20):
        form = word_format(Code.POWER_OF_TWO, bits)
        once = compiled_words(jnp.asarray(normal(seed)), ALIVE, form)
        np.testing.assert_array_equal(compiled_words(once, ALIVE, form), once)


def test_words_that_are_not_used_do_not_move_the_largest_power() -> None:
    live = np.arange(N) % 3 > 0
    for seed in range(20):
        padded = jnp.asarray(np.where(live, normal(seed), 1e3), jnp.float32)
        found = compiled_words(padded, jnp.asarray(live, jnp.float32), word_format(Code.POWER_OF_TWO, 3))
        np.testing.assert_array_equal(np.asarray(found)[live], nearest(normal(seed)[live].astype(np.float64), 3))


A = 0.75  # a constant whose third is a float


def decided(code: Code, words: list[float]) -> list[float]:
    return compiled_words(jnp.asarray(words), jnp.ones(len(words)), word_format(code, scale=A)).tolist()


def test_a_binary_decision_is_the_sign_and_zero_counts_as_positive() -> None:
    assert decided(Code.BINARY, [-9.0, -1e-9, 0.0, 1e-9, 0.2, 9.0]) == [-A, -A, A, A, A, A]


def test_a_ternary_decision_is_zero_up_to_a_third_of_the_constant() -> None:
    words = [0.25, 0.2500001, 0.2499, 0.0, A, 9.0]
    expected = [0.0, A, 0.0, 0.0, A, A]
    assert decided(Code.TERNARY, words) == expected
    assert decided(Code.TERNARY, [-word for word in words]) == [-value for value in expected]


DRAWS = 4000


@pytest.mark.parametrize("code", [Code.BINARY, Code.TERNARY])
def test_the_mean_of_draws_is_the_clipped_word(code: Code) -> None:
    """P(+a) - P(-a) is clip(w/a, -1, 1) both for P(+a) = clip((w/a + 1)/2, 0, 1) and for the sign where |w|/a."""
    words = jnp.asarray([-2.0, -A, -0.6, -0.3, -0.05, 0.0, 0.1, 0.4, 0.7, A, 1.1])
    draw = lambda key: quantize_words(words, jnp.ones(len(words)), word_format(code, scale=A), key)  # noqa: E731
    drawn = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), DRAWS)), np.float64)
    expected = np.clip(np.asarray(words, np.float64), -A, A)
    np.testing.assert_allclose(drawn.mean(0), expected, atol=5 * A / DRAWS**0.5)
    assert set(np.unique(drawn)) == ({-A, A} if code == Code.BINARY else {-A, 0.0, A})
    not_zero = np.ones(len(words)) if code == Code.BINARY else np.abs(expected) / A
    np.testing.assert_allclose((drawn != 0).mean(0), not_zero, atol=5 * 0.5 / DRAWS**0.5)
    sure = np.abs(np.asarray(words)) >= A
    assert (drawn[:, sure] == expected[sure]).all()


@pytest.mark.parametrize("code", [Code.BINARY, Code.TERNARY])
def test_every_word_is_drawn_for_itself_and_the_same_key_draws_the_same(code: Code) -> None:
    words, alive = jnp.full(1000, 0.4 * A), jnp.ones(1000)
    form = word_format(code, scale=A)
    first, again, other = (compiled_words(words, alive, form, jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert 0.1 < np.mean(np.asarray(first) == A) < 0.9 and len(np.unique(first)) == 2
    differ = np.mean(np.asarray(first) != np.asarray(other))
    share = 0.7 if code == Code.BINARY else 0.4
    assert differ == pytest.approx(2 * share * (1 - share), abs=0.1)


@every_format
def test_a_key_changes_no_format_but_binary_and_ternary(form: WordFormat) -> None:
    array = jnp.asarray(normal(0, 0.3))
    same = np.array_equal(compiled_words(array, ALIVE, form), compiled_words(array, ALIVE, form, jax.random.key(0)))
    assert same == (int(form.code) not in (Code.BINARY, Code.TERNARY))


def test_one_program_writes_every_format() -> None:
    program = jax.jit(lambda words, form: quantize_words(words, ALIVE, form))
    seen = set()
    for form in EVERY.values():
        seen.add(np.asarray(program(jnp.asarray(normal(0)), form)).tobytes())
    assert program._cache_size() == 1 and len(seen) == len(EVERY)


def test_formats_side_by_side_are_written_as_alone() -> None:
    array, key = jnp.asarray(normal(0)), jax.random.key(0)
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *EVERY.values())
    for drawn in (None, key):
        written = jax.jit(jax.vmap(lambda form, k=drawn: quantize_words(array, ALIVE, form, k)))(together)
        for row, form in zip(written, EVERY.values(), strict=True):
            np.testing.assert_array_equal(row, compiled_words(array, ALIVE, form, drawn))
