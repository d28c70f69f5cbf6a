"""Wanted sparsity, batch normalisation and stochastic words in a training."""

import jax.numpy as jnp
import numpy as np
import pytest

from codesign import tasks
from codesign.design import Kernel, Network, Recipe, Ternary
from codesign.training import Trained, build, evaluate, restore, train
from codesign.training.step import Settings, moved_thresholds, split, train_epoch, wanted_sparsity

TASK = tasks.find("ru_phones", subset="mini")
RECIPE = Recipe(epochs=3)


def zeros(network: Network, trained: Trained) -> float:
    """Share of zeros in the states that products saw on validation data."""
    activity = evaluate(restore(network, TASK, 0, trained.weights), TASK, "validation").activity
    return 1.0 - sum(n * share for n, share in enumerate(activity[0][1])) / network.state


def settings(sparsity: float, n_steps: float = 100.0) -> Settings:
    return Settings(*(jnp.float32(v) for v in (0.01, n_steps, 0.1, 1.0, sparsity)))


def test_the_wanted_sparsity_rises_over_the_first_half() -> None:
    found = [float(wanted_sparsity(settings(0.8), jnp.int32(step))) for step in (0, 25, 50, 99)]
    assert found == pytest.approx([0.0, 0.4, 0.8, 0.8])


def test_thresholds_move_toward_the_wanted_share_of_real_steps() -> None:
    network = Network(hidden=4, layers=2, state_threshold=0.5)
    _, params, _ = split(build(network, TASK, 0))
    half = jnp.tile(jnp.array([0.0, 0.0, 1.0, 1.0]), (3, 2, 1))  # (time, batch, state)
    padded = half.at[2].set(0.0)
    real = jnp.ones((3, 2)).at[2].set(0.0)

    def thresholds(wanted: float) -> list[float]:
        moved = moved_thresholds(params, [padded, jnp.ones((3, 2, 4))], real, jnp.float32(wanted))
        return [float(moved["layers"][i]["threshold"][...]) for i in range(2)]

    assert thresholds(0.0) == [0.5, 0.5]
    assert thresholds(0.5) == pytest.approx([0.5, 0.5 + 0.02 * 0.5])
    assert thresholds(0.9) == pytest.approx([0.5 + 0.02 * 0.4, 0.5 + 0.02 * 0.9])


def test_a_training_ends_near_the_wanted_share_of_zeros() -> None:
    network = Network(hidden=16, state_sparsity=0.5)
    trained = train([network], Recipe(epochs=4), TASK, [0])[0]
    assert zeros(network, trained) == pytest.approx(0.5, abs=0.12)
    assert 0.0 < float(trained.weights["layers.0.threshold"]) < 0.99


def test_a_given_threshold_stays() -> None:
    network = Network(hidden=8, state_threshold=0.25)
    assert float(train([network], Recipe(epochs=1), TASK, [0])[0].weights["layers.0.threshold"]) == 0.25


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
        network = Network(hidden=8, input_kernel=kernel, recurrent_kernel=kernel, state_sparsity=0.3)
        train([network], Recipe(epochs=1), TASK, [0])
    assert train_epoch._cache_size() == before
