"""Kernels of small factors: the product against the dense kernel of the NumPy structure, words, gradients."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray

from codesign.compression import HierarchicalTucker, TensorStructure, TensorTrain
from codesign.design import Binary, Fixed, Float, Kernel, Network, PowerOfTwo, TaskShape, Ternary, WeightFormat
from codesign.models import CompressedKernel, Mode, RecurrentNetwork
from codesign.models.tensor_kernel import TensorKernel
from codesign.numerics.weight_formats import Code, WordFormat, best_exponent, quantize_words

STRUCTURES: dict[str, TensorStructure] = {
    "tree of 2": HierarchicalTucker(modes=2, leaf_rank=2),
    "tree of 3": HierarchicalTucker(modes=3, leaf_rank=3, inner_rank=2),
    "tree of given modes": HierarchicalTucker(modes=4, row_modes="2x2x2x3", col_modes="1x2x4x2", leaf_rank=2),
    "train of 2": TensorTrain(modes=2, rank=3),
    "train of 3": TensorTrain(modes=3, rank=2, row_modes="3x2x2"),
}
SHAPES = [(1, 12, 16), (4, 8, 8), (3, 11, 13)]  # gates, rows, columns; the last pads both sides
FLOAT = Float()

every_structure = pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)
every_shape = pytest.mark.parametrize(("gates", "rows", "cols"), SHAPES)

product = nnx.jit(lambda kernel, x, key=None: x @ kernel.matrix(key))
written = nnx.jit(lambda kernel, key=None: kernel.written(key))


@cache
def kernel(
    structure: TensorStructure, weight_format: WeightFormat = FLOAT, shape: tuple[int, int, int] = SHAPES[2]
) -> TensorKernel:
    gates, rows, cols = shape
    return TensorKernel(structure, weight_format, gates=gates, rows=rows, cols=cols, key=jax.random.key(5))


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def dense(structure: TensorStructure, compressed: TensorKernel, key: Any = None) -> NDArray[np.float64]:
    """(gates * rows, cols), by the definition of the structure, of the words that memory holds."""
    words = np.asarray(written(compressed, key), np.float64)
    return structure.to_dense(words, *compressed.size)


@every_shape
@every_structure
def test_the_product_is_that_of_the_dense_kernel(structure: TensorStructure, gates: int, rows: int, cols: int) -> None:
    compressed = kernel(structure, shape=(gates, rows, cols))
    x = normal(2, 3, cols)
    found, expected = product(compressed, x), x @ dense(structure, compressed).T
    assert found.shape == (2, 3, gates * rows)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert np.abs(expected).min(axis=(0, 1)).max() > 0


@pytest.mark.parametrize("shape", [(13,), (4, 13), (2, 3, 4, 13)], ids=str)
def test_inputs_may_have_any_leading_axes(shape: tuple[int, ...]) -> None:
    structure = STRUCTURES["tree of 3"]
    x = normal(*shape)
    expected = x @ dense(structure, kernel(structure)).T
    np.testing.assert_allclose(product(kernel(structure), x), expected, atol=1e-5)


@pytest.mark.parametrize(
    "weight_format",
    [Fixed(bits=4), PowerOfTwo(bits=3), Binary(stochastic=False), Ternary(stochastic=False)],
    ids=lambda w: w.kind,
)
@pytest.mark.parametrize("name", ["tree of 3", "train of 3"])
def test_factors_in_every_format_make_the_product(name: str, weight_format: WeightFormat) -> None:
    structure = STRUCTURES[name]
    compressed = kernel(structure, weight_format)
    words = np.asarray(written(compressed))
    assert len(np.unique(words)) <= 2**weight_format.word_length
    assert not np.array_equal(words, compressed.words[...])
    x = normal(5, 13)
    expected = x @ dense(structure, compressed).T
    np.testing.assert_allclose(product(compressed, x), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("bits", [3, 8])
def test_all_factors_share_one_scale(bits: int) -> None:
    """One factor is far smaller than the others: on a scale of its own it would not vanish."""
    structure = STRUCTURES["tree of 3"]
    compressed = nnx.clone(kernel(structure, Fixed(bits=bits)))
    sizes = [compressed.network.volume(factor) for factor in compressed.network.factors]
    first = np.arange(sum(sizes)) < sizes[0]
    masters = jnp.where(jnp.asarray(first), 1e-4, compressed.words[...])
    compressed.words[...] = masters
    words = np.asarray(written(compressed), np.float64)
    form = WordFormat(jnp.int32(Code.FIXED), jnp.int32(bits), jnp.float32(1.0))
    np.testing.assert_array_equal(words, quantize_words(masters, jnp.ones(len(first)), form))
    integers = words / 2.0 ** float(best_exponent(masters, jnp.ones(len(first)), jnp.int32(bits)))
    np.testing.assert_array_equal(integers, np.round(integers))
    assert not words[first].any() and words[~first].any()
    assert not np.asarray(product(compressed, normal(2, 13))).any()


@pytest.mark.parametrize("weight_format", [Binary(), Ternary()], ids=lambda w: w.kind)
def test_drawn_factors_are_one_draw_for_every_word(weight_format: WeightFormat) -> None:
    structure = STRUCTURES["train of 3"]
    compressed, x = kernel(structure, weight_format), normal(5, 13)
    one, other = (jax.random.key(seed) for seed in (1, 2))
    expected = x @ dense(structure, compressed, one).T
    np.testing.assert_allclose(product(compressed, x, one), expected, atol=1e-5 * np.abs(expected).max())
    assert not np.array_equal(written(compressed, one), written(compressed, other))
    assert not np.array_equal(written(compressed, one), written(compressed))
    np.testing.assert_array_equal(written(compressed, one), written(compressed, one))
    assert float(compressed.scale[...]) == pytest.approx(0.5 * structure.bound(3, 11, 13), rel=1e-6)


@pytest.mark.parametrize("weight_format", [Float(), Fixed(bits=6)], ids=lambda w: w.kind)
@every_structure
def test_a_gradient_reaches_every_word(structure: TensorStructure, weight_format: WeightFormat) -> None:
    fitting = structure.model_copy(update={"row_modes": "", "col_modes": ""})  # no word of padding only
    compressed = kernel(fitting, weight_format, SHAPES[1])
    graph, params, rest = nnx.split(compressed, nnx.Param, ...)
    x = jnp.asarray(normal(20, 8))
    value = lambda params: jnp.sum((x @ nnx.merge(graph, params, rest).matrix()) ** 2)  # noqa: E731
    gradient = np.asarray(jax.jit(jax.grad(value))(params)["words"][...])
    assert gradient.shape == (compressed.network.n_words,)
    assert np.isfinite(gradient).all() and np.abs(gradient).min() > 0


@every_structure
def test_gradients_are_those_of_the_dense_kernel_s_words(structure: TensorStructure) -> None:
    compressed = kernel(structure, shape=SHAPES[1])
    graph, params, rest = nnx.split(compressed, nnx.Param, ...)
    x, slope = jnp.asarray(normal(3, 8)), normal(3, 32, seed=1)
    value = lambda params: jnp.sum(slope * (x @ nnx.merge(graph, params, rest).matrix()))  # noqa: E731
    gradient = np.asarray(jax.jit(jax.grad(value))(params)["words"][...], np.float64)
    words = np.asarray(compressed.words[...], np.float64)
    for place in np.random.default_rng(0).integers(len(words), size=6):  # linear in each word
        up, down = (words + step * (np.arange(len(words)) == place) for step in (0.5, -0.5))
        change = structure.to_dense(up, 4, 8, 8) - structure.to_dense(down, 4, 8, 8)
        assert gradient[place] == pytest.approx(np.sum(slope * (np.asarray(x) @ change.T)), rel=1e-3, abs=1e-4)


@every_structure
def test_at_the_start_outputs_have_the_variance_asked_for(structure: TensorStructure) -> None:
    x = normal(400, 64)
    variances = []
    for seed in range(8):
        compressed = TensorKernel(
            structure.model_copy(update={"row_modes": "", "col_modes": ""}),
            Float(), gates=4, rows=16, cols=64, key=jax.random.key(seed), gain=4.0,
        )  # fmt: skip
        variances.append(np.var(product(compressed, x)))
    assert 4.0 / 3 < np.mean(variances) < 4.0 * 3


@pytest.mark.parametrize("name", ["tree of 3", "train of 2"])
def test_a_token_picks_a_column_of_the_kernel(name: str) -> None:
    structure = STRUCTURES[name]
    tokens = np.array([[0, 12, 5], [5, 1, 12]])
    found = nnx.jit(lambda kernel, tokens: kernel.matrix()[tokens])(kernel(structure), tokens)
    np.testing.assert_allclose(found, dense(structure, kernel(structure)).T[tokens], atol=1e-5)


TREE, TRAIN = STRUCTURES["tree of 2"], STRUCTURES["train of 2"]
PLAIN: dict[str, Any] = {
    "hidden": 8,
    "head_weights": Float(),
    "activations": Float(),
    "input_kernel": Kernel(structure=TREE, weights=Float()),
    "recurrent_kernel": Kernel(structure=TRAIN, weights=Float()),
}
NETWORKS = {
    "gru": PLAIN,
    "lstm of 2 layers": PLAIN | {"cell": "lstm", "layers": 2, "projection": 3, "peephole": True}
    | {"projection_kernel": Kernel(structure=TREE, weights=Float())},
    "normalised": PLAIN | {"batch_norm": "frozen"},
    "recurrent only": PLAIN | {"input_kernel": Kernel(weights=Float())},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("gru", True), ("lstm of 2 layers", False), ("normalised", False), ("recurrent only", False)],
)
def test_a_network_of_tensor_kernels_is_that_of_their_dense_ones(name: str, tokens: bool) -> None:
    fields = NETWORKS[name]
    free = {k: Kernel(weights=Float()) for k in ("input_kernel", "recurrent_kernel", "projection_kernel")}
    model, plain = (
        RecurrentNetwork(Network(**values), TaskShape(5, 3, tokens=tokens), 0) for values in (fields, fields | free)
    )
    for theirs, (where, mine) in zip(plain.kernels().values(), model.kernels().items(), strict=True):
        structure = fields[where.split(".")[-1] if "projection" not in where else "projection_kernel"].structure
        assert isinstance(theirs, CompressedKernel)
        words = structure.to_dense(np.asarray(mine.words[...]), *mine.size) if isinstance(mine, TensorKernel) else None
        theirs.words[...] = mine.words[...] if words is None else jnp.asarray(words.reshape(-1), jnp.float32)
    x = np.random.default_rng(0).integers(0, 5, (6, 4)) if tokens else normal(6, 4, 5)
    run = nnx.jit(lambda model, x: model(x, None, Mode(real=jnp.ones((6, 4)))).scores)
    np.testing.assert_allclose(run(model, x), run(plain, x), atol=1e-4)


def test_networks_of_one_tensor_structure_share_a_program() -> None:
    run = jax.jit(lambda graph, *states: nnx.merge(graph, *states)(jnp.ones((2, 1, 5))).scores, static_argnums=0)
    other = PLAIN | {"input_kernel": Kernel(structure=TREE, weights=Fixed(bits=5)), "state_threshold": 0.2}
    for fields, seed in ((PLAIN, 0), (PLAIN, 1), (other, 2)):
        run(*nnx.split(RecurrentNetwork(Network(**fields), TaskShape(5, 3), seed), ...))
    assert run._cache_size() == 1
    larger = PLAIN | {"input_kernel": Kernel(structure=HierarchicalTucker(modes=2, leaf_rank=3), weights=Float())}
    run(*nnx.split(RecurrentNetwork(Network(**larger), TaskShape(5, 3), 0), ...))
    assert run._cache_size() == 2
