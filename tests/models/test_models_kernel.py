"""The compressed weight matrix: mask * quantize(words)[ids], and how it starts."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray

from codesign.compression import BlockCirculant, CoarseGrain, Dense, Structure
from codesign.compression.structure import pad
from codesign.design import Binary, Fixed, Float, PowerOfTwo, Ternary, WeightFormat
from codesign.models import CompressedKernel
from codesign.models.kernel import written_bias
from codesign.numerics.weight_formats import WordFormat, quantize_words
from tests.strategies import EXAMPLES, Example

GATES, ROWS, COLS, SEED = 3, 51, 39, 5

every_example = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
every_format = pytest.mark.parametrize(
    "weight_format",
    [Float(), Fixed(bits=3), Fixed(bits=8), PowerOfTwo(bits=3), Binary(stochastic=False), Ternary()],
    ids=["float", "3", "8", "power_of_two", "binary", "ternary"],
)


FLOAT = Float()


@cache
def kernel(
    structure: Structure, weight_format: WeightFormat = FLOAT, cols: int = COLS, gain: float = 1.0
) -> CompressedKernel:
    key = jax.random.key(SEED)
    return CompressedKernel(structure, weight_format, gates=GATES, rows=ROWS, cols=cols, key=key, seed=SEED, gain=gain)


matrix = nnx.jit(lambda kernel, key=None: kernel.matrix(key))
write = jax.jit(quantize_words)


def format_of(compressed: CompressedKernel) -> WordFormat:
    return WordFormat(compressed.code[...], compressed.bits[...], compressed.scale[...])


def gate_matrices(compressed: CompressedKernel) -> NDArray[np.float32]:
    """(gates, rows, cols) of a kernel."""
    return np.asarray(matrix(compressed)).T.reshape(GATES, ROWS, -1)


@every_format
@every_example
def test_the_matrix_is_the_structure_of_quantized_words_gate_by_gate(example: Example, weight_format: Any) -> None:
    compressed = kernel(example.structure, weight_format)
    trained = np.asarray(write(compressed.words[...], compressed.live[...], format_of(compressed)))
    n_live = int(np.asarray(compressed.live[...]).sum())
    written = np.full(int(compressed.n_stored[...]), np.nan)  # words that only pad a block are used nowhere
    written[np.asarray(compressed.stored[...])[:n_live]] = trained[:n_live]
    n_words = example.structure.counts(ROWS, COLS).n_words
    assert len(written) == GATES * n_words
    for gate, matrix in enumerate(gate_matrices(compressed)):
        words = written[gate * n_words :][:n_words]
        layout = example.structure.layout(ROWS, COLS, SEED * GATES + gate)
        expected = np.where(layout.mask, words[layout.ids], 0.0)
        np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize("bits", [3, 6])
@pytest.mark.parametrize("k", [2, 8])
def test_circulant_blocks_stay_circulant_when_quantized(k: int, bits: int) -> None:
    for matrix in gate_matrices(kernel(BlockCirculant(block_size=k), Fixed(bits=bits))):
        whole = matrix[: ROWS // k * k, : COLS // k * k].reshape(ROWS // k, k, COLS // k, k)
        np.testing.assert_array_equal(np.roll(whole, (1, 1), (1, 3)), whole)
        assert len(np.unique(whole)) > 2


def test_masked_places_are_exactly_zero_and_the_others_are_not() -> None:
    structure = CoarseGrain(level1_block=8, level1_keep=0.5, level2_block=2, level2_keep=0.25)
    for gate, matrix in enumerate(gate_matrices(kernel(structure))):
        mask = structure.layout(ROWS, COLS, SEED * GATES + gate).mask
        assert not matrix[~mask].any()
        assert matrix[mask].all()


def test_every_gate_draws_its_own_mask() -> None:
    structure = CoarseGrain(level1_block=8, level1_keep=0.5, level2_block=2, level2_keep=0.25)
    masks = {(matrix != 0).tobytes() for matrix in gate_matrices(kernel(structure))}
    assert len(masks) == GATES


@pytest.mark.parametrize("bits", [3, 5, 8])
@every_example
def test_all_gates_share_one_power_of_two_scale(example: Example, bits: int) -> None:
    values = gate_matrices(kernel(example.structure, Fixed(bits=bits))).astype(np.float64)
    fractions, powers = np.frexp(values[values != 0])
    # fraction * 2^24 is whole; its trailing zeros tell the lowest bit that a value needs.
    lowest = (fractions * 2**24).astype(np.int64)
    step = 2.0 ** float((powers - 24 + np.log2(lowest & -lowest)).min())
    integers = values / step
    assert -(2 ** (bits - 1)) <= integers.min() <= integers.max() <= 2 ** (bits - 1) - 1


@every_example
def test_a_kernel_holds_no_more_values_than_words(example: Example) -> None:
    n_values = len(np.unique(gate_matrices(kernel(example.structure))))
    n_words = GATES * example.structure.counts(ROWS, COLS).n_words
    assert n_values <= n_words + 1  # and zero


@every_format
@every_example
def test_a_gradient_arrives_at_used_words_only(example: Example, weight_format: Any) -> None:
    compressed = kernel(example.structure, weight_format)
    live = np.asarray(compressed.live[...])

    def total(words: jax.Array) -> jax.Array:
        quantized = quantize_words(words, compressed.live[...], format_of(compressed))
        return jnp.sum(compressed.mask[...] * quantized[compressed.ids[...]])

    uses = np.asarray(jax.grad(total)(compressed.words[...]))
    assert uses.sum() == np.asarray(compressed.mask[...]).sum()
    np.testing.assert_array_equal(uses > 0, live > 0)


@pytest.mark.parametrize(("gain", "mean_square"), [(1.0, 1.0), (16.0, 1.0 / 16.0)])
@every_example
def test_at_the_start_outputs_have_the_variance_asked_for(example: Example, gain: float, mean_square: float) -> None:
    x = np.random.default_rng(0).normal(0.0, np.sqrt(mean_square), (500, COLS))
    variance = np.var(x @ np.asarray(matrix(kernel(example.structure, gain=gain))), axis=0)
    assert 0.5 < variance.mean() < 2.0


def test_words_beyond_the_kernel_do_not_matter() -> None:
    compressed = nnx.clone(kernel(BlockCirculant(block_size=8), Fixed(bits=4)))
    before = np.asarray(matrix(compressed))
    compressed.words[...] = jnp.where(compressed.live[...] > 0, compressed.words[...], 1e3)
    np.testing.assert_array_equal(matrix(compressed), before)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_structure_trains_a_vector_of_the_same_length(name: str) -> None:
    compressed = kernel(EXAMPLES[name].structure)
    assert compressed.words.shape == (GATES * ROWS * COLS,)


@pytest.mark.parametrize("cols", [39, 40])
def test_a_padded_kernel_that_drops_nothing_trains_a_vector_of_the_same_length(cols: int) -> None:
    structure = CoarseGrain(level1_block=8, level1_keep=1.0, level2_block=2, level2_keep=1.0)
    assert pad(ROWS, 8) * pad(cols, 8) > ROWS * cols
    assert kernel(structure, cols=cols).words.shape == (GATES * ROWS * cols,)


FEW = [Binary(), Ternary()]
few_bits = pytest.mark.parametrize("weight_format", FEW, ids=lambda w: w.kind)


def drawn(compressed: CompressedKernel, key: int = 0) -> NDArray[np.float32]:
    """(gates, rows, cols) of a kernel whose words are drawn."""
    return np.asarray(matrix(compressed, jax.random.key(key))).T.reshape(GATES, ROWS, -1)


@few_bits
@pytest.mark.parametrize("k", [2, 8])
def test_circulant_blocks_stay_circulant_when_drawn(k: int, weight_format: WeightFormat) -> None:
    compressed = kernel(BlockCirculant(block_size=k), weight_format)
    a = float(compressed.scale[...])
    for gate in drawn(compressed):
        whole = gate[: ROWS // k * k, : COLS // k * k].reshape(ROWS // k, k, COLS // k, k)
        np.testing.assert_array_equal(np.roll(whole, (1, 1), (1, 3)), whole)
        assert {round(float(v) / a, 6) for v in np.unique(whole)} == (
            {-1, 1} if weight_format.kind == "binary" else {-1, 0, 1}
        )


@pytest.mark.parametrize("key", [None, 0], ids=["decided", "drawn"])
def test_coarse_grain_is_zero_where_masked_and_binary_elsewhere(key: int | None) -> None:
    structure = CoarseGrain(level1_block=8, level1_keep=0.5, level2_block=2, level2_keep=0.25)
    compressed = kernel(structure, Binary())
    a = float(compressed.scale[...])
    for gate, found in enumerate(gate_matrices(compressed) if key is None else drawn(compressed, key)):
        mask = structure.layout(ROWS, COLS, SEED * GATES + gate).mask
        assert not found[~mask].any()
        np.testing.assert_allclose(np.abs(found[mask]), a, rtol=1e-6)
        assert len(np.unique(found[mask])) == 2


@few_bits
def test_every_key_draws_anew_and_the_same_key_the_same(weight_format: WeightFormat) -> None:
    compressed = kernel(Dense(), weight_format)
    first, again, other = (drawn(compressed, key) for key in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.mean(first != other) > 0.1
    assert np.mean(first != gate_matrices(compressed)) > 0.05


@pytest.mark.parametrize("weight_format", [Fixed(bits=4), Binary(stochastic=False), Ternary(stochastic=False)], ids=str)
def test_formats_that_are_not_stochastic_are_never_drawn(weight_format: WeightFormat) -> None:
    compressed = kernel(Dense(), weight_format)
    assert not compressed.stochastic
    np.testing.assert_array_equal(drawn(compressed), gate_matrices(compressed))


@few_bits
def test_the_constant_is_half_of_glorot_s_bound_and_masters_fill_that_bound(weight_format: WeightFormat) -> None:
    coarse = CoarseGrain(level1_block=4, level1_keep=0.5, level2_block=4, level2_keep=1.0)
    for structure, n_inputs in ((Dense(), 40), (BlockCirculant(block_size=8), 40), (coarse, 20)):
        compressed = kernel(structure, weight_format, cols=40)
        a = 0.5 * (6 / (n_inputs + GATES * ROWS)) ** 0.5
        assert float(compressed.scale[...]) == pytest.approx(a, rel=1e-6)
        masters = np.asarray(compressed.words[...])[np.asarray(compressed.live[...]) > 0]
        assert 1.8 * a < np.abs(masters).max() <= 2 * a


@pytest.mark.parametrize("weight_format", [Fixed(bits=3), PowerOfTwo(), Binary(), Ternary()], ids=lambda w: w.kind)
def test_a_bias_beside_weights_that_are_not_float_has_sixteen_bits(weight_format: WeightFormat) -> None:
    bias = jnp.array([1.0, -0.3, 1e-5, 0.7])
    written = np.asarray(written_bias(bias, kernel(Dense(), weight_format)), np.float64)
    # The largest is 1, so 15 bits hold what lies below 2: steps of 2^-14.
    np.testing.assert_array_equal(written * 2**14, np.floor(np.asarray(bias, np.float64) * 2**14 + 0.5))


def test_a_bias_beside_float_weights_is_float() -> None:
    bias = jnp.array([1.0, -0.3, 1e-5, 0.7])
    np.testing.assert_array_equal(written_bias(bias, kernel(Dense())), bias)
