"""LSTM and GRU against Flax, against their equations in NumPy, and against finite differences."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from numpy.typing import NDArray

from codesign.models.cells import N_CARRY, STEPS, StepWeights, gru_step, lstm_step, sparsify
from codesign.numerics.activations import Functions, functions

TIME, BATCH, INPUTS, HIDDEN = 6, 4, 5, 8
GATES = {"lstm": 4, "gru": 3}
EXACT = functions("exact")
ATOL = 1e-5

every_cell = pytest.mark.parametrize("cell", STEPS)


def normal(*shape: int, seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def random_weights(cell: str, bits: int = 0, threshold: float = 0.0) -> StepWeights:
    return StepWeights(
        input_kernel=0.5 * normal(INPUTS, GATES[cell] * HIDDEN, seed=0),
        recurrent_kernel=0.5 * normal(HIDDEN, GATES[cell] * HIDDEN, seed=1),
        bias=0.5 * normal(4 * HIDDEN, seed=2),
        bits=jnp.int32(bits),
        threshold=jnp.float32(threshold),
    )


X = normal(TIME, BATCH, INPUTS, seed=3)
ZERO = jnp.zeros((BATCH, HIDDEN))


def outputs(cell: str, weights: StepWeights, x: jax.Array = X, pair: Functions = EXACT) -> NDArray[np.float32]:
    """States of a hand-written loop over time."""
    carry, states = (ZERO,) * N_CARRY[cell], []
    for frame in x:
        carry, state = STEPS[cell](weights, pair, carry, frame)
        states.append(np.asarray(state))
    return np.stack(states)


def flax_outputs(cell: Any, carry: Any) -> NDArray[np.float32]:
    states = []
    for frame in X:
        carry, state = cell(carry, frame)
        states.append(np.asarray(state))
    return np.stack(states)


def test_the_lstm_equals_that_of_flax() -> None:
    weights = random_weights("lstm")
    cell = nnx.OptimizedLSTMCell(INPUTS, HIDDEN, recurrent_kernel_init=jax.nn.initializers.zeros, rngs=nnx.Rngs(0))
    cell.dense_i.kernel[...] = weights.input_kernel
    cell.dense_h.kernel[...] = weights.recurrent_kernel
    cell.dense_h.bias[...] = weights.bias
    np.testing.assert_allclose(outputs("lstm", weights), flax_outputs(cell, (ZERO, ZERO)), atol=ATOL)


def test_the_lstm_has_its_gates_in_the_order_i_f_g_o() -> None:
    weights = random_weights("lstm")
    cell = nnx.LSTMCell(INPUTS, HIDDEN, recurrent_kernel_init=jax.nn.initializers.zeros, rngs=nnx.Rngs(0))
    parts = zip(
        *(jnp.split(a, 4, axis=-1) for a in (weights.input_kernel, weights.recurrent_kernel, weights.bias)), strict=True
    )
    for gate, (kernel, recurrent_kernel, bias) in zip(("i", "f", "g", "o"), parts, strict=True):
        getattr(cell, f"i{gate}" if gate != "f" else "if_").kernel[...] = kernel
        getattr(cell, f"h{gate}").kernel[...] = recurrent_kernel
        getattr(cell, f"h{gate}").bias[...] = bias
    np.testing.assert_allclose(outputs("lstm", weights), flax_outputs(cell, (ZERO, ZERO)), atol=ATOL)


def test_the_gru_without_a_recurrent_bias_equals_that_of_flax() -> None:
    weights = random_weights("gru")
    weights = StepWeights(**{**vars(weights), "bias": weights.bias.at[3 * HIDDEN :].set(0.0)})
    cell = nnx.GRUCell(INPUTS, HIDDEN, recurrent_kernel_init=jax.nn.initializers.zeros, rngs=nnx.Rngs(0))
    cell.dense_i.kernel[...] = weights.input_kernel
    cell.dense_i.bias[...] = weights.bias[: 3 * HIDDEN]
    cell.dense_h.kernel[...] = weights.recurrent_kernel
    np.testing.assert_allclose(outputs("gru", weights), flax_outputs(cell, ZERO), atol=ATOL)


def test_the_gru_has_its_gates_in_the_order_r_z_n_and_then_the_bias_of_hn() -> None:
    weights = random_weights("gru")
    kernels, recurrent_kernels = (jnp.split(a, 3, axis=-1) for a in (weights.input_kernel, weights.recurrent_kernel))
    biases = jnp.split(weights.bias, 4)
    params: dict[str, Any] = {}
    for gate, kernel, recurrent_kernel, bias in zip("rzn", kernels, recurrent_kernels, biases[:3], strict=True):
        params[f"i{gate}"] = {"kernel": kernel, "bias": bias}
        params[f"h{gate}"] = {"kernel": recurrent_kernel}
    params["hn"]["bias"] = biases[3]
    cell = linen.GRUCell(HIDDEN)
    expected = flax_outputs(lambda carry, x: cell.apply({"params": params}, carry, x), ZERO)
    np.testing.assert_allclose(outputs("gru", weights), expected, atol=ATOL)


def written(x: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """x in `bits` - 1 fractional bits, half up, within [-1, 1)."""
    scale = 2.0 ** (bits - 1)
    return np.clip(np.floor(x * scale + 0.5), -scale, scale - 1) / scale


def equations(cell: str, weights: StepWeights, bits: int, threshold: float) -> NDArray[np.float64]:
    """The equations of the module's docstring in NumPy float64, with every rounding it names."""
    wx, wh, b = (np.asarray(a, np.float64) for a in (weights.input_kernel, weights.recurrent_kernel, weights.bias))
    c = h = np.zeros((BATCH, HIDDEN))
    states = []
    for x in np.asarray(X, np.float64):
        seen = np.where(np.abs(h) < threshold, 0.0, h)
        px, ph = np.split(x @ wx, GATES[cell], axis=1), np.split(seen @ wh, GATES[cell], axis=1)
        bx = np.split(b, 4)
        if cell == "lstm":
            i, f, g, o = (
                written(np.tanh(z) if gate == 2 else 1 / (1 + np.exp(-z)), bits)
                for gate, z in enumerate(p + q + r for p, q, r in zip(px, ph, bx, strict=True))
            )
            c = f * c + i * g
            h = written(o * written(np.tanh(c), bits), bits)
        else:
            r, z = (written(1 / (1 + np.exp(-(px[k] + ph[k] + bx[k]))), bits) for k in (0, 1))
            n = written(np.tanh(px[2] + bx[2] + r * (ph[2] + bx[3])), bits)
            h = written((1 - z) * n + z * h, bits)
        states.append(h)
    return np.stack(states)


@pytest.mark.parametrize(("bits", "threshold"), [(8, 0.0), (5, 0.2), (12, 0.1)])
@every_cell
def test_quantized_states_follow_the_equations(cell: str, bits: int, threshold: float) -> None:
    found = outputs(cell, random_weights(cell, bits, threshold))
    expected = equations(cell, random_weights(cell), bits, threshold)
    # float32 may round a tie the other way and no more: nearly all are equal, the rest a step or two away.
    assert np.mean(found == expected) > 0.98
    assert np.quantile(np.abs(found - expected), 0.99) <= 2.0 * 2.0 ** (1 - bits)


@pytest.mark.parametrize("bits", [3, 4, 8, 16])
@every_cell
def test_states_lie_on_the_grid_of_their_word_length(cell: str, bits: int) -> None:
    words = outputs(cell, random_weights(cell, bits)) * 2.0 ** (bits - 1)
    np.testing.assert_array_equal(words, np.round(words))
    assert -(2 ** (bits - 1)) <= words.min() <= words.max() <= 2 ** (bits - 1) - 1
    assert len(np.unique(words)) > 2


def test_small_entries_are_zero_and_those_at_the_threshold_are_kept() -> None:
    h = jnp.array([-0.3, -0.2, -0.1, 0.0, 0.19, 0.2, 0.5])
    np.testing.assert_array_equal(sparsify(h, jnp.float32(0.2)), jnp.array([-0.3, -0.2, 0, 0, 0, 0.2, 0.5]))


def test_no_threshold_keeps_every_entry() -> None:
    h = normal(100, seed=4)
    np.testing.assert_array_equal(sparsify(h, jnp.float32(0.0)), h)


STATE = jnp.array([[0.05, -0.9, 0.1, 0.7, -0.02, 0.4, -0.15, 0.3]] * BATCH)
SMALL = np.abs(np.asarray(STATE[0])) < 0.2


def lstm_from(h: jax.Array, threshold: float) -> tuple[Any, jax.Array]:
    return lstm_step(random_weights("lstm", threshold=threshold), EXACT, (ZERO, h), X[0])


def gru_from(h: jax.Array, threshold: float) -> tuple[Any, jax.Array]:
    return gru_step(random_weights("gru", threshold=threshold), EXACT, (h,), X[0])


def test_entries_below_the_threshold_do_not_enter_the_lstm() -> None:
    (c, h), _ = lstm_from(STATE, 0.2)
    (c_zeroed, h_zeroed), _ = lstm_from(jnp.where(jnp.asarray(SMALL), 0.0, STATE), 0.0)
    np.testing.assert_array_equal(c, c_zeroed)
    np.testing.assert_array_equal(h, h_zeroed)


def test_the_gru_carries_small_entries_on_although_its_products_do_not_see_them() -> None:
    zeroed = jnp.where(jnp.asarray(SMALL), 0.0, STATE)
    (h,), _ = gru_from(STATE, 0.2)
    (h_zeroed,), _ = gru_from(zeroed, 0.0)
    weights = random_weights("gru")
    z = jax.nn.sigmoid(
        (X[0] @ weights.input_kernel + zeroed @ weights.recurrent_kernel)[:, HIDDEN : 2 * HIDDEN]
        + weights.bias[HIDDEN : 2 * HIDDEN]
    )
    np.testing.assert_allclose(h - h_zeroed, z * (STATE - zeroed), atol=1e-6)


def test_the_gradient_of_small_entries_passes() -> None:
    gradient = jax.grad(lambda h: jnp.sum(lstm_from(h, 0.2)[0][0] ** 2))(STATE)
    # The same sum, with the state as the kernel sees it and without any threshold.
    seen = jnp.where(jnp.asarray(SMALL), 0.0, STATE)
    expected = jax.grad(lambda h: jnp.sum(lstm_from(h, 0.0)[0][0] ** 2))(seen)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(np.asarray(gradient)[:, SMALL]).min() > 0


@every_cell
def test_gradients_equal_central_differences(cell: str) -> None:
    with jax.enable_x64(True):
        arrays = {
            name: jnp.asarray(getattr(random_weights(cell), name), jnp.float64)
            for name in ("input_kernel", "recurrent_kernel", "bias")
        }
        x, zero = jnp.asarray(X, jnp.float64), jnp.zeros((BATCH, HIDDEN), jnp.float64)
        slope = jnp.asarray(np.random.default_rng(5).normal(size=(TIME, BATCH, HIDDEN)))

        @jax.jit
        def value(arrays: dict[str, jax.Array]) -> jax.Array:
            weights = StepWeights(**arrays, bits=jnp.int32(0), threshold=jnp.float32(0))
            step = lambda carry, frame: STEPS[cell](weights, EXACT, carry, frame)  # noqa: E731
            return jnp.sum(slope * jax.lax.scan(step, (zero,) * N_CARRY[cell], x)[1])

        gradient = jax.jit(jax.grad(value))(arrays)
        rng, eps = np.random.default_rng(6), 1e-5
        for name, array in arrays.items():
            for _ in range(4):
                at = tuple(rng.integers(size) for size in array.shape)
                up, down = (value(arrays | {name: array.at[at].add(change)}) for change in (eps, -eps))
                assert float(gradient[name][at]) == pytest.approx(float(up - down) / (2 * eps), rel=1e-6, abs=1e-8)


STATE_LENGTH = 3


def with_peepholes(bits: int = 0, threshold: float = 0.0, projected: bool = False) -> StepWeights:
    n = STATE_LENGTH if projected else HIDDEN
    return replace(
        random_weights("lstm", bits, threshold),
        recurrent_kernel=0.5 * normal(n, 4 * HIDDEN, seed=7),
        peepholes=normal(3 * HIDDEN, seed=8),
        projection=normal(HIDDEN, n, seed=9) if projected else None,
    )


def peephole_equations(
    weights: StepWeights, bits: int, threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """States before the recurrent kernel, and the last c: i and f see the old c, o the new one; h = Wp (o tanh(c))."""
    wx, wh, b, peepholes = (
        np.asarray(a, np.float64)
        for a in (weights.input_kernel, weights.recurrent_kernel, weights.bias, weights.peepholes)
    )
    projection = None if weights.projection is None else np.asarray(weights.projection, np.float64)
    round_ = (lambda x: written(x, bits)) if bits else (lambda x: x)
    sigmoid = lambda z: round_(1 / (1 + np.exp(-z)))  # noqa: E731
    c, h = np.zeros((BATCH, HIDDEN)), np.zeros((BATCH, len(wh)))
    states = []
    for x in np.asarray(X, np.float64):
        seen = np.where(np.abs(h) < threshold, 0.0, h)
        zi, zf, zg, zo = np.split(x @ wx + seen @ wh + b, 4, axis=1)
        pi, pf, po = np.split(peepholes, 3)
        i, f = sigmoid(zi + pi * c), sigmoid(zf + pf * c)
        c = f * c + i * round_(np.tanh(zg))
        o = sigmoid(zo + po * c)
        h = round_(o * round_(np.tanh(c)))
        if projection is not None:
            h = round_(h @ projection)
        states.append(h)
    return np.stack(states), c


def run_lstm(weights: StepWeights) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """States and the last c."""
    carry = (ZERO, jnp.zeros((BATCH, len(weights.recurrent_kernel))))
    (c, _), states = jax.lax.scan(partial(lstm_step, weights, EXACT), carry, X)
    return np.asarray(states), np.asarray(c)


@pytest.mark.parametrize("threshold", [0.0, 0.2])
@pytest.mark.parametrize("projected", [False, True])
def test_peepholes_and_projection_follow_the_equations(projected: bool, threshold: float) -> None:
    weights = with_peepholes(threshold=threshold, projected=projected)
    states, c = run_lstm(weights)
    expected_states, expected_c = peephole_equations(weights, 0, threshold)
    assert states.shape == (TIME, BATCH, STATE_LENGTH if projected else HIDDEN)
    np.testing.assert_allclose(c, expected_c, atol=ATOL)
    np.testing.assert_allclose(states, expected_states, atol=ATOL)


@pytest.mark.parametrize("bits", [5, 8])
def test_a_projected_state_is_an_activation_word(bits: int) -> None:
    states, _ = run_lstm(with_peepholes(bits, projected=True))
    words = states * 2.0 ** (bits - 1)
    np.testing.assert_array_equal(words, np.round(words))
    assert -(2 ** (bits - 1)) <= words.min() <= words.max() <= 2 ** (bits - 1) - 1
    expected, _ = peephole_equations(with_peepholes(projected=True), bits, 0.0)
    assert np.mean(states == expected) > 0.95  # float32 may round a tie the other way


def test_every_peephole_reaches_its_own_gate_only() -> None:
    """With one group of peepholes at a time, the others' gates are those of a cell without."""
    for group in range(3):
        peepholes = jnp.zeros((3, HIDDEN)).at[group].set(1.5).reshape(-1)
        weights = replace(random_weights("lstm"), peepholes=peepholes)
        found, c = run_lstm(weights)
        expected, expected_c = peephole_equations(weights, 0, 0.0)
        np.testing.assert_allclose(found, expected, atol=ATOL)
        np.testing.assert_allclose(c, expected_c, atol=ATOL)
        assert np.abs(expected - run_lstm(random_weights("lstm"))[0]).max() > 0.01
    # the last group is o's, which the c of the same step does not see
    steps = (lstm_step(w, EXACT, (ZERO + 0.3, ZERO), X[0]) for w in (weights, random_weights("lstm")))
    ((c, h), _), ((plain_c, plain_h), _) = steps
    np.testing.assert_array_equal(c, plain_c)
    assert np.abs(np.asarray(h - plain_h)).min() > 0


def test_gradients_reach_peepholes_and_projection() -> None:
    weights = with_peepholes(projected=True)

    @jax.jit
    def value(peepholes: jax.Array, projection: jax.Array) -> jax.Array:
        mine = replace(weights, peepholes=peepholes, projection=projection)
        carry = (ZERO, jnp.zeros((BATCH, STATE_LENGTH)))
        return jnp.sum(jax.lax.scan(partial(lstm_step, mine, EXACT), carry, X)[1] ** 2)

    for gradient in jax.jit(jax.grad(value, argnums=(0, 1)))(weights.peepholes, weights.projection):
        assert np.abs(np.asarray(gradient)).min() > 0
