"""Wanted sparsity, batch normalisation and stochastic words in a training."""

import jax.numpy as jnp
import numpy as np
import pytest

from codesign import tasks
from codesign.design import Kernel, Network, Recipe, Ternary
from codesign.models import Pass
from codesign.training import Trained, evaluate, restore, train
from codesign.training.step import (
    Settings,
    first_pressure,
    moved_pressure,
    pull_on_states,
    sizes_and_zeros,
    train_epoch,
)

TASK = tasks.find("ru_phones", subset="mini")
RECIPE = Recipe(epochs=3)


def zeros(network: Network, trained: Trained) -> float:
    """Share of zeros in the states that products saw on validation data."""
    activity = evaluate(restore(network, TASK, 0, trained.weights), TASK, "validation").activity
    return 1.0 - sum(n * share for n, share in enumerate(activity[0][1][1])) / network.state


def settings(sparsity: float, n_steps: float = 100.0) -> Settings:
    return Settings(*(jnp.float32(v) for v in (0.01, n_steps, 0.1, 1.0, sparsity)))


def test_sizes_and_zeros_of_real_steps_only() -> None:
    half = jnp.tile(jnp.array([0.0, 0.0, -1.0, 0.5]), (3, 2, 1))  # (time, batch, state)
    dense = jnp.tile(jnp.array([0.25, -0.25, -1.0, 0.5]), (3, 2, 1))
    real = jnp.ones((3, 2)).at[2].set(0.0)
    made = Pass(half, [half.at[2].set(0.0), dense], [dense.at[2].set(9.0), dense], [], [])
    sizes, zeros = sizes_and_zeros(made, real)
    assert sizes.tolist() == [0.5, 0.5] and zeros.tolist() == [0.5, 0.0]


def test_pressure_follows_the_missing_share_of_zeros() -> None:
    before, zeros = first_pressure(4, 0.5), jnp.array([0.5, 0.45, 0.25, 1.0])
    assert first_pressure(2, 0.0).tolist() == [0.0, 0.0]
    ratios = moved_pressure(before, zeros, settings(0.5, 100.0)) / before
    assert ratios.tolist() == pytest.approx([1.0, *(np.exp(0.8 * miss) for miss in (0.05, 0.1, -0.1))])


def test_the_pull_on_states_is_stronger_while_zeros_are_missing() -> None:
    sizes, pressure = jnp.array([0.2]), jnp.array([3.0])
    pulls = [pull_on_states(pressure, sizes, jnp.array([zeros]), settings(0.5)) for zeros in (0.5, 0.45, 0.0, 0.6)]
    factors = [1.0, np.exp(0.5), np.exp(1.0), np.exp(-1.0)]
    assert [float(pull) for pull in pulls] == pytest.approx([0.6 * factor for factor in factors])
    assert float(pull_on_states(0.0 * pressure, sizes, jnp.array([0.2]), settings(0.0))) == 0.0


def test_a_training_ends_near_the_wanted_share_of_zeros() -> None:
    network = Network(hidden=16, state_sparsity=0.7, state_threshold=0.1)
    trained, plain = (
        train([one], Recipe(epochs=4), TASK, [0])[0]
        for one in (network, network.model_copy(update={"state_sparsity": 0.0}))
    )
    assert zeros(network, plain) < 0.5 and zeros(network, trained) == pytest.approx(0.7, abs=0.1)


@pytest.mark.parametrize("before", [{}, {"dense_epochs": 1}, {"dense_epochs": 1, "admm_epochs": 1}], ids=str)
def test_states_are_thinned_out_whatever_phase_comes_before(before: dict[str, int]) -> None:
    network = Network(hidden=8, state_threshold=0.25)
    trained = train([network], Recipe(epochs=1, **before), TASK, [0])[0]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(20, 1, TASK.shape.n_inputs)), jnp.float32)
    states = restore(network, TASK, 0, trained.weights)(x).states[0]
    assert (states == 0).any() and jnp.abs(states)[states != 0].min() >= 0.25


NORMALISED = Network(
    cell="lstm",
    hidden=16,
    batch_norm="frozen",
    input_kernel=Kernel(weights=Ternary()),
    recurrent_kernel=Kernel(weights=Ternary()),
)


def test_constants_are_measured_after_training_and_the_decided_network_works() -> None:
    trained = train([NORMALISED], RECIPE, TASK, [0])[0]
    names = [name for name in trained.weights if "variances" in name]
    assert len(names) == 3 and not any(np.allclose(trained.weights[name], 1.0) for name in names)
    metrics = evaluate(restore(NORMALISED, TASK, 0, trained.weights), TASK, "validation").metrics
    assert metrics["error"] < 0.55  # the pause alone gives 0.8


def test_draws_differ_from_step_to_step_but_not_from_run_to_run() -> None:
    first, again = (train([NORMALISED], Recipe(epochs=1), TASK, [5])[0] for _ in range(2))
    assert first.losses == again.losses
    decided = NORMALISED.model_copy(
        update={name: Kernel(weights=Ternary(stochastic=False)) for name in ("input_kernel", "recurrent_kernel")}
    )
    assert train([decided], Recipe(epochs=1), TASK, [5])[0].losses != first.losses


def test_formats_and_sparsity_targets_share_one_program() -> None:
    train([Network(hidden=8)], Recipe(epochs=1), TASK, [0])
    before = train_epoch._cache_size()
    decided = {"kind": "binary", "stochastic": False}
    for weights in ({"kind": "power_of_two", "bits": 4}, decided, {**decided, "kind": "ternary"}):
        kernel = Kernel.model_validate({"weights": weights})
        network = Network(
            hidden=8, input_kernel=kernel, recurrent_kernel=kernel, state_sparsity=0.3, state_threshold=0.1
        )
        train([network], Recipe(epochs=1), TASK, [0])
    assert train_epoch._cache_size() == before
