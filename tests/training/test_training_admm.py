"""ADMM toward a structure: its three steps by hand, and trainings that pass through it."""

import jax.numpy as jnp
import numpy as np
import pytest

from codesign import tasks
from codesign.compression import BlockCirculant, CoarseGrain, Structure
from codesign.design import Kernel, Network, Recipe, TaskShape
from codesign.models import RecurrentNetwork
from codesign.training import admm, evaluate, restore, train
from codesign.training.step import split

TASK = tasks.find("ru_phones", subset="mini")
COARSE = CoarseGrain(level1_block=4, level1_keep=0.5, level2_block=2, level2_keep=0.5)
STRUCTURES = [BlockCirculant(block_size=4), COARSE]
NAME = "layers.0.recurrent_kernel"


def target(structure: Structure) -> admm.Target:
    network = Network(cell="lstm", hidden=8, recurrent_kernel=Kernel(structure=structure))
    return admm.targets_of(RecurrentNetwork(network, TaskShape(5, 3), 0))[NAME]


def normal(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=4 * 8 * 8).astype(np.float32)


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: s.kind)
def test_the_projection_is_that_of_the_structure_gate_by_gate(structure: Structure) -> None:
    dense = normal(0)
    found = np.asarray(admm.project(target(structure), jnp.asarray(dense))).reshape(4, 8, 8)
    for gate, matrix in enumerate(dense.reshape(4, 8, 8).astype(np.float64)):
        seed = 1 * 4 + gate  # of the recurrent kernel of the first layer, as `gate_layouts` draws it
        expected = structure.to_dense(structure.project(matrix, seed), 8, 8, seed)
        np.testing.assert_allclose(found[gate], expected, atol=1e-6)


def test_the_projection_of_a_circulant_block_is_the_mean_along_cyclic_diagonals() -> None:
    dense = normal(0)
    found = np.asarray(admm.project(target(BlockCirculant(block_size=4)), jnp.asarray(dense))).reshape(4, 8, 8)
    block = dense.reshape(4, 8, 8)[2, 4:, :4]
    for d in range(4):
        mean = np.mean([block[(c + d) % 4, c] for c in range(4)])
        for c in range(4):
            assert found[2, 4 + (c + d) % 4, c] == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: s.kind)
def test_two_rounds_by_hand(structure: Structure) -> None:
    goal = target(structure)
    w0, w1, w2 = (jnp.asarray(normal(seed)) for seed in range(3))
    state = admm.begin({NAME: goal}, {NAME: w0}, rho=0.5)
    np.testing.assert_allclose(state.z[NAME], admm.project(goal, w0))
    assert not np.asarray(state.u[NAME]).any()
    state = admm.update(state, {NAME: w1}, growth=2.0)
    z1 = admm.project(goal, w1)
    u1 = (w1 - z1) / 2.0  # the dual is scaled by rho, which has doubled
    np.testing.assert_allclose(state.z[NAME], z1, atol=1e-6)
    np.testing.assert_allclose(state.u[NAME], u1, atol=1e-6)
    assert float(state.rho) == 1.0
    state = admm.update(state, {NAME: w2}, growth=1.0)
    z2 = admm.project(goal, w2 + u1)
    np.testing.assert_allclose(state.z[NAME], z2, atol=1e-6)
    np.testing.assert_allclose(state.u[NAME], u1 + w2 - z2, atol=1e-6)


def test_admm_minimises_a_quadratic_within_the_structure() -> None:
    """min ||W - A||^2 over block-circulant W is the projection of A; ADMM must end there."""
    goal, a = target(BlockCirculant(block_size=4)), jnp.asarray(normal(3))
    w = jnp.zeros_like(a)
    state = admm.begin({NAME: goal}, {NAME: w}, rho=1.0)
    for _ in range(60):
        w = (2 * a + state.rho * (state.z[NAME] - state.u[NAME])) / (2 + state.rho)  # the exact W-step
        state = admm.update(state, {NAME: w}, growth=1.0)
    np.testing.assert_allclose(state.z[NAME], admm.project(goal, a), atol=1e-4)
    np.testing.assert_allclose(w, state.z[NAME], atol=1e-4)


def test_the_penalty_is_half_rho_times_the_squared_distance() -> None:
    goal = target(BlockCirculant(block_size=4))
    w0, w1 = jnp.asarray(normal(0)), jnp.asarray(normal(1))
    state = admm.update(admm.begin({NAME: goal}, {NAME: w0}, rho=0.3), {NAME: w1}, growth=1.0)
    model = RecurrentNetwork(Network(cell="lstm", hidden=8), TaskShape(5, 3), 0)
    model.layers[0].recurrent_kernel.words[...] = w0
    found = float(admm.penalty(state, split(model)[1]))
    expected = 0.15 * float(np.sum(np.square(np.asarray(w0 - state.z[NAME] + state.u[NAME], np.float64))))
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_training_through_admm_ends_within_the_structure_and_is_repeatable() -> None:
    kernel = Kernel(structure=BlockCirculant(block_size=4))
    network = Network(cell="lstm", hidden=16, projection=8, peephole=True, projection_kernel=kernel).model_copy(
        update={"input_kernel": kernel, "recurrent_kernel": kernel}
    )
    recipe = Recipe(epochs=1, dense_epochs=1, admm_epochs=2, admm_rho=0.01, admm_growth=2.0)
    epochs: list[int] = []
    first = train([network], recipe, TASK, [3], epochs.append)[0]
    again = train([network], recipe, TASK, [3])[0]
    assert epochs == [1, 2, 3, 4] and first.losses == again.losses and len(first.losses) == 4
    for name, words in first.weights.items():
        np.testing.assert_array_equal(words, again.weights[name])
    model = restore(network, TASK, 3, first.weights)
    block = np.asarray(model.layers[0].recurrent_kernel.matrix()).T[:4, :4]
    for d in range(4):
        assert len({float(block[(c + d) % 4, c]) for c in range(4)}) == 1
    assert evaluate(model, TASK, "validation").metrics["error"] < 0.75
