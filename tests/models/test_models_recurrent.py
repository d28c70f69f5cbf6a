"""Whole networks: the scan over time, what is quantized where, and compiled against eager."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from codesign.compression import BlockCirculant, CoarseGrain
from codesign.design import Binary, Fixed, Float, Kernel, Network, PiecewiseLinear, TaskShape, Ternary
from codesign.errors import InputError
from codesign.models import Mode, RecurrentNetwork
from codesign.models.cells import N_CARRY, STEPS, StepWeights
from codesign.models.kernel import written_bias
from codesign.numerics import activations

TIME, BATCH, INPUTS, OUTPUTS = 6, 4, 5, 3
X = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (TIME, BATCH, INPUTS)), jnp.float32)
FLOAT = Kernel(weights=Float())
SHAPE: dict[str, Any] = {"hidden": 8, "layers": 2, "activation_function": PiecewiseLinear(segments=8)}
PLAIN = SHAPE | {"input_kernel": FLOAT, "recurrent_kernel": FLOAT, "head_weights": Float(), "activations": Float()}
COARSE = CoarseGrain(level1_block=4, level1_keep=0.5, level2_block=2, level2_keep=0.5)

every_cell = pytest.mark.parametrize("cell", STEPS)
compiled = nnx.jit(lambda model, x: model(x))
matrix = nnx.jit(lambda kernel: kernel.matrix())


def network(**fields: Any) -> RecurrentNetwork:
    model = RecurrentNetwork(Network(**fields), TaskShape(INPUTS, OUTPUTS), seed=1)
    for layer in model.layers:  # biases that start at zero would hide where they go
        layer.bias[...] = layer.bias[...] + 0.3 * jax.random.normal(jax.random.key(9), layer.bias.shape)
    model.bias[...] = jnp.linspace(-1.0, 1.0, OUTPUTS)
    return model


def by_hand(model: RecurrentNetwork, x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    """The network as a Python loop over layers and steps, for float activations."""
    states = []
    for layer in model.layers:
        weights = StepWeights(
            matrix(layer.input_kernel),
            matrix(layer.recurrent_kernel),
            written_bias(layer.bias[...], layer.input_kernel),
            layer.bits[...],
            layer.threshold[...],
        )
        functions = activations.functions(layer.function.kind, layer.function.segments)
        step = jax.jit(partial(STEPS[layer.cell], weights, functions))
        carry: tuple[jax.Array, ...] = (jnp.zeros((BATCH, layer.hidden)),) * N_CARRY[layer.cell]
        seen = []
        for frame in x:
            carry, state = step(carry, frame)
            seen.append(state)
        dense = jnp.stack(seen)
        states.append(jnp.where(jnp.abs(dense) < layer.threshold[...], 0.0, dense))
        x = dense
    return x @ matrix(model.head) + written_bias(model.bias[...], model.head), states


@every_cell
def test_the_scan_equals_a_loop_over_layers_and_steps(cell: str) -> None:
    sparse = {"state_threshold": 0.1, "recurrent_kernel": Kernel(structure=COARSE)}
    model = network(**(PLAIN | sparse | {"cell": cell}))
    scores, states, *_ = compiled(model, X)
    expected_scores, expected_states = by_hand(model, X)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-5)
    for found, expected in zip(states, expected_states, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_compiled_network_equals_the_eager_one() -> None:
    model = network(**PLAIN)
    np.testing.assert_allclose(compiled(model, X)[0], model(X)[0], atol=1e-5)


@pytest.mark.parametrize("structure", [BlockCirculant(block_size=4), COARSE], ids=["block_circulant", "coarse_grain"])
def test_a_compiled_kernel_equals_the_eager_one_bit_for_bit(structure: Any) -> None:
    kernel = network(**SHAPE, input_kernel=Kernel(structure=structure, weights=Fixed(bits=4))).layers[0].input_kernel
    np.testing.assert_array_equal(matrix(kernel), kernel.matrix())


def test_the_input_is_rounded_to_the_activation_word() -> None:
    model = network(**SHAPE, activations=Fixed(bits=4))
    rounded = np.clip(np.floor(np.asarray(X) * 8 + 0.5), -8, 7) / 8
    assert (rounded != np.asarray(X)).any()
    np.testing.assert_array_equal(compiled(model, X)[0], compiled(model, jnp.asarray(rounded))[0])


@every_cell
def test_states_of_every_layer_are_activation_words(cell: str) -> None:
    made = compiled(network(**SHAPE, cell=cell, activations=Fixed(bits=5)), X)
    for layer in made.states:
        words = np.asarray(layer) * 16
        np.testing.assert_array_equal(words, np.round(words))
        assert len(np.unique(words)) > 2


@every_cell
def test_the_head_sees_the_entries_that_the_recurrent_kernel_does_not(cell: str) -> None:
    model = network(**(PLAIN | {"cell": cell, "state_threshold": 0.2}))
    made = compiled(model, X)
    scores, states = made.scores, made.states
    for layer in states:
        seen = np.abs(np.asarray(layer))
        assert (seen == 0).any()
        assert seen[seen > 0].min() >= 0.2
    for layer, before in zip(made.states, made.dense, strict=True):
        np.testing.assert_array_equal(layer, jnp.where(jnp.abs(before) < 0.2, 0.0, before))
        assert 0 < np.abs(np.asarray(before)).min() < 0.2
    head = np.asarray(made.dense[-1]) @ np.asarray(model.head.matrix()) + np.linspace(-1.0, 1.0, OUTPUTS)
    np.testing.assert_allclose(scores, head, atol=1e-5)


def test_only_the_lstm_starts_with_an_open_forget_gate() -> None:
    lstm, gru = (
        RecurrentNetwork(Network(cell=cell, hidden=8), TaskShape(INPUTS, OUTPUTS), 0) for cell in ("lstm", "gru")
    )
    assert lstm.layers[0].bias[...].tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16
    assert gru.layers[0].bias[...].tolist() == [0.0] * 32


def test_the_same_seed_builds_the_same_network() -> None:
    kernel = Kernel(structure=COARSE)
    first, again = (jax.tree.leaves(nnx.state(network(**SHAPE, input_kernel=kernel))) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_every_kernel_draws_its_own_words_and_mask() -> None:
    kernel = Kernel(structure=COARSE, weights=Float())
    fields = PLAIN | {"layers": 3, "input_kernel": kernel, "recurrent_kernel": kernel}
    models = [RecurrentNetwork(Network(**fields), TaskShape(8, OUTPUTS), seed) for seed in range(3)]
    kernels = [k for model in models for layer in model.layers for k in (layer.input_kernel, layer.recurrent_kernel)]
    assert len({np.asarray(kernel.mask[...]).tobytes() for kernel in kernels}) == len(kernels) == 18
    assert len({np.asarray(kernel.words[...]).tobytes() for kernel in kernels}) == 18


PROJECTED: dict[str, Any] = PLAIN | {"cell": "lstm", "peephole": True, "projection": 3}


def test_a_projected_network_equals_a_loop_over_layers_and_steps() -> None:
    model = network(**PROJECTED, projection_kernel=FLOAT)
    for layer in model.layers:
        assert layer.peepholes is not None and not np.asarray(layer.peepholes[...]).any()  # none at the start
        layer.peepholes[...] = jax.random.normal(jax.random.key(5), (3 * 8,))
    made = compiled(model, X)
    x = X
    for index, layer in enumerate(model.layers):
        assert layer.projection is not None
        weights = StepWeights(
            matrix(layer.input_kernel),
            matrix(layer.recurrent_kernel),
            layer.bias[...],
            layer.bits[...],
            layer.threshold[...],
            layer.peepholes[...],
            matrix(layer.projection),
        )
        assert [len(a) for a in (weights.input_kernel, weights.recurrent_kernel)] == [x.shape[-1], 3]
        step = jax.jit(partial(STEPS["lstm"], weights, activations.functions("piecewise_linear", 8)))
        carry: tuple[jax.Array, ...] = (jnp.zeros((BATCH, 8)), jnp.zeros((BATCH, 3)))
        seen = []
        for frame in x:
            carry, state = step(carry, frame)
            seen.append(state)
        x = jnp.stack(seen)
        np.testing.assert_allclose(made.states[index], x, atol=1e-5)
        for found, expected in zip(made.carries[index], carry, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(made.scores, x @ matrix(model.head) + model.bias[...], atol=1e-5)


def test_peepholes_are_written_as_biases_are() -> None:
    model = network(**SHAPE, cell="lstm", peephole=True)
    layer = model.layers[0]
    assert layer.peepholes is not None
    layer.peepholes[...] = jnp.linspace(-0.9, 0.9, 24) + 1e-6
    before = compiled(model, X).scores
    layer.peepholes[...] = written_bias(layer.peepholes[...], layer.input_kernel)
    words = np.asarray(layer.peepholes[...], np.float64) * 2**15  # the largest is below 1
    np.testing.assert_array_equal(words, np.round(words))
    np.testing.assert_array_equal(compiled(model, X).scores, before)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"projection": 4}, "projection and peephole belong to the LSTM"),
        ({"peephole": True}, "projection and peephole belong to the LSTM"),
        ({"cell": "lstm", "projection": 8}, "projection must be smaller than hidden = 8, got 8"),
        ({"cell": "lstm", "projection": 4, "batch_norm": "frozen"}, "batch_norm cannot be combined"),
        ({"cell": "lstm", "peephole": True, "batch_norm": "per_step"}, "batch_norm cannot be combined"),
    ],
)
def test_a_network_that_contradicts_itself_is_refused_in_one_line(fields: dict[str, Any], text: str) -> None:
    contradictory = Network(hidden=8, **fields)
    assert contradictory.contradiction is not None and text in contradictory.contradiction
    with pytest.raises(InputError, match=f"network: {text}"):
        RecurrentNetwork(contradictory, TaskShape(INPUTS, OUTPUTS), 0)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"batch_norm": "frozen"},
        {"cell": "lstm", "projection": 4, "peephole": True},
        {"state_sparsity": 0.9, "state_threshold": 0.1},
    ],
    ids=str,
)
def test_a_network_that_does_not_contradict_itself_has_no_contradiction(fields: dict[str, Any]) -> None:
    assert Network(hidden=8, **fields).contradiction is None


KERNELS = ("input_kernel", "recurrent_kernel", "projection_kernel")


def test_a_network_is_stochastic_where_any_kernel_is() -> None:
    for name in KERNELS:
        assert network(**(PROJECTED | {name: Kernel(weights=Binary())})).stochastic
    for weights in (Ternary(stochastic=False), Fixed(bits=4), Float()):
        assert not network(**(PROJECTED | dict.fromkeys(KERNELS, Kernel(weights=weights)))).stochastic


def test_words_are_drawn_by_the_key_of_a_pass_and_decided_without() -> None:
    model = network(**(PROJECTED | {"layers": 1} | dict.fromkeys(KERNELS, Kernel(weights=Ternary()))))
    run = nnx.jit(lambda model, key: model(X, None, Mode(key)).scores)
    one, again, other = (np.asarray(run(model, jax.random.key(seed))) for seed in (21, 21, 22))
    plain = np.asarray(compiled(model, X).scores)
    np.testing.assert_array_equal(one, again)
    assert (one != other).any() and (one != plain).any()
    for kernel in model.kernels().values():
        kernel.words[...] = kernel.matrix().T.reshape(-1)  # words at a are drawn to be themselves
    np.testing.assert_allclose(run(model, jax.random.key(21)), plain, atol=1e-6)


def test_a_kernel_is_drawn_once_for_all_steps() -> None:
    """Steps of equal input that see no state give equal states: the words do not change within a pass."""
    model = network(**(PLAIN | {"layers": 1, "input_kernel": Kernel(weights=Binary())}))
    layer = model.layers[0]
    layer.recurrent_kernel.words[...] = jnp.zeros_like(layer.recurrent_kernel.words[...])
    layer.bias[...] = layer.bias[...].at[8:16].set(-100.0)  # z is 3e-4, so h is nearly n
    constant = jnp.broadcast_to(X[0], X.shape)
    states = np.asarray(model(constant, None, Mode(jax.random.key(21))).states[0])
    assert np.abs(states).max() > 0.1
    np.testing.assert_allclose(states, np.broadcast_to(states[0], states.shape), atol=2e-3)
