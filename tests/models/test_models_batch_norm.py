"""Batch normalisation in the cell against its equations in NumPy: by the batch, and by constants."""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray

from codesign.design import Fixed, Float, Frozen, Kernel, Network, PerStep, TaskShape
from codesign.models import Mode, RecurrentNetwork, cells
from codesign.models.batch_norm import EPSILON, CellBatchNorm, Moments, StepMoments, batch_moments
from codesign.models.cells import N_CARRY, StepWeights
from codesign.numerics.activations import functions

TIME, BATCH, HIDDEN = 5, 6, 4
GATES = {"lstm": 4, "gru": 3}
EXACT = functions("exact")
NAMES = ("x", "h", "c")

Array = NDArray[np.float64]

every_cell = pytest.mark.parametrize("cell", cells.STEPS)


def normal(*shape: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def positive(*shape: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0.3, 2.0, shape).astype(np.float32)


def weights_of(cell: str, bits: int = 0, threshold: float = 0.0) -> StepWeights:
    return StepWeights(
        input_kernel=None,
        recurrent_kernel=jnp.asarray(normal(HIDDEN, GATES[cell] * HIDDEN, seed=1)),
        bias=jnp.asarray(normal(4 * HIDDEN, seed=2)),
        bits=jnp.int32(bits),
        threshold=jnp.float32(threshold),
    )


def norm_of(cell: str, kind: PerStep | Frozen) -> CellBatchNorm:
    """With gains, a shift and constants that are all different."""
    norm = CellBatchNorm(kind, GATES[cell], HIDDEN)
    for seed, param in enumerate((norm.x, norm.h, norm.c)):
        param[...] = jnp.asarray(positive(*param.shape, seed=10 + seed))
    norm.c_shift[...] = jnp.asarray(normal(HIDDEN, seed=13))
    for seed, name in enumerate(NAMES):
        norm.means[name][...] = jnp.asarray(normal(*norm.means[name].shape, seed=20 + seed))
        norm.variances[name][...] = jnp.asarray(positive(*norm.variances[name].shape, seed=30 + seed))
    return norm


def products(cell: str) -> NDArray[np.float32]:
    return 2.0 * normal(TIME, BATCH, GATES[cell] * HIDDEN, seed=3) + 0.5


LENGTHS = np.array([5, 3, 4, 5, 2, 5])
REAL = (np.arange(TIME)[:, None] < LENGTHS).astype(np.float32)
START = {cell: (jnp.zeros((BATCH, HIDDEN)),) * n for cell, n in N_CARRY.items()}


class Found(NamedTuple):
    """Of a run in NumPy."""

    states: Array
    carry: tuple[Array, ...]
    means: dict[str, Array]
    variances: dict[str, Array]


def equations(
    cell: str,
    norm: CellBatchNorm,
    x: NDArray[np.float32],
    real: NDArray[np.float32] | None,
    row_of: Any = None,
    bits: int = 0,
    threshold: float = 0.0,
) -> Found:
    """The equations of the module's docstring, step by step; `row_of` says whose constants a step takes."""
    weights = weights_of(cell)
    wh, b = np.asarray(weights.recurrent_kernel, np.float64), np.asarray(weights.bias, np.float64)
    gain = {name: np.asarray(getattr(norm, name)[...], np.float64) for name in ("x", "h", "c", "c_shift")}
    scale = 2.0 ** (bits - 1)
    rounded = (lambda a: np.clip(np.floor(a * scale + 0.5), -scale, scale - 1) / scale) if bits else (lambda a: a)
    sigmoid = lambda z: rounded(1 / (1 + np.exp(-z)))  # noqa: E731
    c = h = np.zeros((BATCH, HIDDEN))
    states, means, variances = [], {name: [] for name in NAMES}, {name: [] for name in NAMES}

    def bn(name: str, a: Array, step: int) -> Array:
        if real is None:
            row = row_of(step)
            mean = np.asarray(norm.means[name][row], np.float64)
            variance = np.asarray(norm.variances[name][row], np.float64)
        else:
            rows = a[real[step] > 0]
            mean, variance = rows.mean(0), rows.var(0)
        means[name].append(mean)
        variances[name].append(variance)
        return gain[name] * (a - mean) / np.sqrt(variance + EPSILON)

    for step, given in enumerate(x.astype(np.float64)):
        seen = np.where(np.abs(h) < threshold, 0.0, h)
        of_x, of_h = bn("x", given, step), bn("h", seen @ wh, step)
        if cell == "lstm":
            zi, zf, zg, zo = np.split(of_x + of_h + b, 4, axis=1)
            c = sigmoid(zf) * c + sigmoid(zi) * rounded(np.tanh(zg))
            h = rounded(sigmoid(zo) * rounded(np.tanh(bn("c", c, step) + gain["c_shift"])))
        else:
            (xr, xz, xn), (hr, hz, hn), (br, bz, b_n, b_hn) = np.split(of_x, 3, 1), np.split(of_h, 3, 1), np.split(b, 4)
            r, z = sigmoid(xr + hr + br), sigmoid(xz + hz + bz)
            n = rounded(np.tanh(xn + b_n + r * (hn + b_hn)))
            h = rounded((1 - z) * n + z * h)
        states.append(h)
    stack = lambda found: {name: np.stack(rows) for name, rows in found.items() if rows}  # noqa: E731
    return Found(np.stack(states), (c, h) if cell == "lstm" else (h,), stack(means), stack(variances))


def run(
    cell: str,
    norm: CellBatchNorm,
    x: Any,
    real: Any,
    weights: StepWeights | None = None,
    first: int = 0,
) -> tuple[NDArray[np.float32], Any, StepMoments]:
    """The module itself, compiled."""
    step = nnx.jit(lambda norm, x: norm(cell, weights or weights_of(cell), EXACT, START[cell], x, real, first))
    states, carry, moments = step(norm, jnp.asarray(x))
    return np.asarray(states), carry, moments


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, atol=2e-4, rtol=2e-4)


@every_cell
def test_training_normalises_every_step_by_its_real_rows(cell: str) -> None:
    norm = norm_of(cell, Frozen())
    states, carry, moments = run(cell, norm, products(cell), jnp.asarray(REAL))
    expected = equations(cell, norm, products(cell), REAL)
    close(states, expected.states)
    for found, wanted in zip(carry, expected.carry, strict=True):
        close(found, wanted)
    for name, found in zip(NAMES, moments, strict=True):
        if name in expected.means:
            close(found.mean, expected.means[name])
            close(found.variance, expected.variances[name])
    assert (cell == "gru") == (not np.asarray(moments.c.mean).any())


@every_cell
def test_rows_of_padding_do_not_count(cell: str) -> None:
    norm, x = norm_of(cell, Frozen()), products(cell)
    garbage = np.where(REAL[..., None] > 0, x, 50.0 + 9.0 * normal(*x.shape, seed=4))
    (states, _, moments), (same, _, same_moments) = (run(cell, norm, data, jnp.asarray(REAL)) for data in (x, garbage))
    np.testing.assert_allclose(same[REAL > 0], states[REAL > 0], atol=1e-6)
    for found, wanted in zip(jax.tree.leaves(same_moments), jax.tree.leaves(moments), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert np.abs(same - states)[REAL == 0].max() > 0.01


def test_moments_of_a_batch_by_hand() -> None:
    a = jnp.array([[1.0, 10.0], [3.0, 30.0], [99.0, -99.0], [5.0, 80.0]])
    found = batch_moments(a, jnp.array([1.0, 1.0, 0.0, 1.0]))
    assert found.mean.tolist() == [3.0, 40.0]
    np.testing.assert_allclose(found.variance, [8 / 3, (900 + 100 + 1600) / 3], rtol=1e-6)


def test_a_step_of_padding_only_is_finite() -> None:
    found = batch_moments(jnp.ones((3, 2)), jnp.zeros(3))
    assert (found.mean.tolist(), found.variance.tolist()) == ([0.0, 0.0], [0.0, 0.0])


@pytest.mark.parametrize(("bits", "threshold"), [(8, 0.0), (6, 0.25)])
@every_cell
def test_words_and_threshold_are_those_of_the_plain_cells(cell: str, bits: int, threshold: float) -> None:
    norm = norm_of(cell, Frozen())
    states, _, _ = run(cell, norm, products(cell), None, weights_of(cell, bits, threshold))
    expected = equations(cell, norm, products(cell), None, lambda step: 0, bits, threshold).states
    words = states * 2.0 ** (bits - 1)
    np.testing.assert_array_equal(words, np.round(words))
    assert np.mean(np.abs(states - expected) < 1e-6) > 0.95  # float32 may round a tie the other way


# steps with constants, number of the first step, whose constants each of the 5 steps takes
ROWS: list[tuple[PerStep | Frozen, int, list[int]]] = [
    (Frozen(), 0, [0, 0, 0, 0, 0]),
    (Frozen(), 7, [0, 0, 0, 0, 0]),
    (PerStep(steps=3), 0, [0, 1, 2, 2, 2]),
    (PerStep(steps=8), 0, [0, 1, 2, 3, 4]),
    (PerStep(steps=8), 5, [5, 6, 7, 7, 7]),
]


@pytest.mark.parametrize(("kind", "first", "rows"), ROWS, ids=str)
@every_cell
def test_constants_are_those_of_the_step_or_the_last(
    cell: str, kind: PerStep | Frozen, first: int, rows: list[int]
) -> None:
    norm = norm_of(cell, kind)
    states, _, _ = run(cell, norm, products(cell), None, first=first)
    close(states, equations(cell, norm, products(cell), None, lambda step: rows[step]).states)


def moments_seen(a: NDArray[np.float32], real: NDArray[np.float32]) -> Moments:
    """By batch and step, of a (batches, time, batch, n)."""
    return jax.vmap(jax.vmap(batch_moments))(jnp.asarray(a), jnp.asarray(real))


BATCHES = 3


@pytest.mark.parametrize(
    ("kind", "groups"),
    [
        (Frozen(), [range(TIME)]),
        (PerStep(steps=TIME), [[t] for t in range(TIME)]),
        (PerStep(steps=2), [[0], range(1, TIME)]),
        (PerStep(steps=TIME + 2), [[0], [1], [2], [3], [4], [4], [4]]),
    ],
    ids=["frozen", "each step", "later steps together", "steps never reached"],
)
def test_constants_are_the_moments_of_all_real_rows(kind: PerStep | Frozen, groups: list[Any]) -> None:
    norm = CellBatchNorm(kind, 4, HIDDEN)
    sizes = {"x": 4 * HIDDEN, "h": 4 * HIDDEN, "c": HIDDEN}
    # batches of different means, so that moments pooled wrongly differ from those of all rows
    values = {
        name: normal(BATCHES, TIME, BATCH, n, seed=n + i) + np.arange(BATCHES)[:, None, None, None]
        for i, (name, n) in enumerate(sizes.items())
    }
    lengths = np.random.default_rng(0).integers(1, TIME + 1, (BATCHES, BATCH))
    lengths[0, 0] = TIME
    real = (np.arange(TIME)[None, :, None] < lengths[:, None, :]).astype(np.float32)
    seen = StepMoments(*(moments_seen(values[name], real) for name in NAMES))
    norm.set_moments(seen, jnp.asarray(real.sum(2)))
    for name in NAMES:
        for row, steps in enumerate(groups):
            rows = np.concatenate([values[name][:, t][real[:, t] > 0] for t in steps]).astype(np.float64)
            np.testing.assert_allclose(norm.means[name][row], rows.mean(0), atol=1e-5)
            np.testing.assert_allclose(norm.variances[name][row], rows.var(0), atol=1e-5, rtol=1e-5)


@every_cell
def test_frozen_constants_fold_into_a_plain_cell(cell: str) -> None:
    """One scale a gate output, folded into both kernels, and one shift, folded into the bias."""
    norm = norm_of(cell, Frozen())
    norm.c[...], norm.c_shift[...] = jnp.ones(HIDDEN), jnp.zeros(HIDDEN)  # the LSTM's c has no product to fold into
    norm.means["c"][...], norm.variances["c"][...] = jnp.zeros((1, HIDDEN)), jnp.full((1, HIDDEN), 1.0 - EPSILON)
    n_inputs, weights = 3, weights_of(cell)
    input_kernel = normal(n_inputs, GATES[cell] * HIDDEN, seed=5)
    x = normal(TIME, BATCH, n_inputs, seed=6)
    states, _, _ = run(cell, norm, x @ input_kernel, None)
    constants = norm.folded(cell, weights.bias)
    folded = StepWeights(
        input_kernel=input_kernel * constants.scale_x[0],
        recurrent_kernel=weights.recurrent_kernel * constants.scale_h[0],
        bias=constants.shift[0],
        bits=weights.bits,
        threshold=weights.threshold,
    )
    _, plain = jax.jit(partial(jax.lax.scan, partial(cells.STEPS[cell], folded, EXACT)))(START[cell], jnp.asarray(x))
    close(states, plain)


every_kind = pytest.mark.parametrize("kind", [Frozen(), PerStep(steps=3)], ids=["frozen", "per step"])


def beside_bias(cell: str, of_x: Any, of_h: Any) -> Any:
    """The sums to which the four quarters of a bias are added."""
    if cell == "lstm":
        return of_x + of_h
    (gates_x, n_x), (gates_h, n_h) = (np.split(of, [2 * HIDDEN]) for of in (of_x, of_h))
    return np.concatenate([gates_x + gates_h, n_x, n_h])


@every_kind
@every_cell
def test_folded_rows_are_the_normalisations_of_their_steps(cell: str, kind: PerStep | Frozen) -> None:
    norm, bias = norm_of(cell, kind), normal(4 * HIDDEN, seed=2)
    folded = norm.folded(cell, jnp.asarray(bias))
    assert len(folded.shift) == norm.means["x"].shape[0]
    a = {name: normal(norm.means[name].shape[1], seed=40 + i) for i, name in enumerate(NAMES)}
    for row, shift in enumerate(folded.shift):
        bn: dict[str, Any] = {}
        for name in NAMES:
            distance = (a[name] - norm.means[name][row]) / np.sqrt(norm.variances[name][row] + EPSILON)
            bn[name] = getattr(norm, name) * distance
        found = beside_bias(cell, folded.scale_x[row] * a["x"], folded.scale_h[row] * a["h"]) + shift
        np.testing.assert_allclose(found, beside_bias(cell, bn["x"], bn["h"]) + bias, atol=1e-5)
        if cell == "gru":
            assert folded.scale_c is None and folded.shift_c is None
        else:
            assert folded.scale_c is not None and folded.shift_c is not None
            seen = folded.scale_c[row] * a["c"] + folded.shift_c[row]
            np.testing.assert_allclose(seen, bn["c"] + norm.c_shift, atol=1e-5)


@every_kind
@every_cell
def test_a_layer_set_to_folded_constants_is_the_same_layer(cell: str, kind: PerStep | Frozen) -> None:
    norm, again = norm_of(cell, kind), CellBatchNorm(kind, GATES[cell], HIDDEN)
    for gain in (norm.x, norm.h, norm.c):  # of both signs, and some without effect
        gain[...] = gain[...] * jnp.resize(jnp.array([1.0, -1.0, 0.0]), gain.shape)
    weights = weights_of(cell)
    again.set_folded(norm.folded(cell, weights.bias))
    states, _, _ = run(cell, norm, products(cell), None)
    same, _, _ = run(cell, again, products(cell), None, replace(weights, bias=jnp.zeros(4 * HIDDEN)))
    np.testing.assert_allclose(same, states, atol=2e-6)


def test_rows_of_very_different_scales_are_taken_over_exactly() -> None:
    """A unit hardly varies at one step: the square of its scales' ratio would be lost beside EPSILON."""
    norm, zero = norm_of("lstm", PerStep(steps=2)), jnp.zeros(4 * HIDDEN)
    norm.variances["x"][...] = jnp.stack([jnp.full(4 * HIDDEN, 1e6), jnp.full(4 * HIDDEN, 1e-9)])
    norm.x[...] = norm.x[...] * jnp.resize(jnp.array([1.0, -1.0]), norm.x.shape)
    folded = norm.folded("lstm", zero)
    norm.set_folded(folded)
    for found, wanted in zip(norm.folded("lstm", zero), folded, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


FLOAT = Kernel(weights=Float())
PLAIN: dict[str, Any] = {
    "hidden": HIDDEN,
    "input_kernel": FLOAT,
    "recurrent_kernel": FLOAT,
    "head_weights": Float(),
    "activations": Float(),
}


def test_a_network_hands_its_layers_the_real_steps_in_training_and_constants_afterwards() -> None:
    model = RecurrentNetwork(Network(cell="lstm", layers=2, batch_norm=Frozen(), **PLAIN), TaskShape(3, 2), 0)
    x = normal(TIME, BATCH, 3, seed=7)
    run_it = nnx.jit(lambda model, x, real: model(x, None, Mode(real=real)))
    training = run_it(model, jnp.asarray(x), jnp.asarray(REAL))
    given = x
    for index, layer in enumerate(model.layers):
        assert layer.batch_norm is not None
        product = given @ np.asarray(layer.input_kernel.matrix())
        of_x = training.moments[index].x
        for t in range(TIME):
            rows = product[t][REAL[t] > 0]
            close(of_x.mean[t], rows.mean(0))
            close(of_x.variance[t], rows.var(0))
        given = np.asarray(training.states[index])
    afterwards = run_it(model, jnp.asarray(x), None)
    for layer, seen in zip(model.layers, afterwards.moments, strict=True):
        assert layer.batch_norm is not None
        np.testing.assert_array_equal(seen.x.mean, jnp.broadcast_to(layer.batch_norm.means["x"][0], seen.x.mean.shape))
    assert np.abs(np.asarray(afterwards.scores - training.scores)).max() > 1e-3


@every_cell
def test_a_gradient_reaches_all_gains_but_no_constant(cell: str) -> None:
    network = Network(cell=cell, batch_norm=PerStep(steps=2), **(PLAIN | {"activations": Fixed(bits=8)}))
    model = RecurrentNetwork(network, TaskShape(3, 2), 0)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    x = jnp.asarray(normal(TIME, BATCH, 3, seed=7))

    def value(params: Any) -> jax.Array:
        return jnp.sum(nnx.merge(graph, params, rest)(x, None, Mode(real=jnp.asarray(REAL))).scores ** 2)

    gradient = jax.jit(jax.grad(value))(params)["layers"][0]["batch_norm"]
    for name in ("x", "h", *(("c", "c_shift") if cell == "lstm" else ())):
        assert np.abs(np.asarray(gradient[name][...])).min() > 0
    for name in NAMES:
        assert not np.asarray(gradient["means"][name][...]).any()
        assert not np.asarray(gradient["variances"][name][...]).any()
