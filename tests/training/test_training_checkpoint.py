"""A training that stops after any epoch and goes on from its bytes ends as one that never stopped."""

import numpy as np
import pytest

from codesign import tasks, training
from codesign.compression import BlockCirculant
from codesign.design import Kernel, Network, Recipe
from codesign.errors import DataError
from codesign.training import Trained

TASK = tasks.find("ru_phones", subset="mini")
KERNEL = Kernel(structure=BlockCirculant(block_size=4), weights="ternary")
NETWORK = Network(cell="lstm", hidden=16, batch_norm="frozen", input_kernel=KERNEL, recurrent_kernel=KERNEL)
SPARSE = Network(cell="gru", hidden=8, state_threshold=0.1, state_sparsity=0.5)
RECIPE = Recipe(dense_epochs=2, admm_epochs=2, epochs=2, admm_growth=2.0)
SEED = 5


@pytest.fixture(scope="module")
def whole() -> Trained:
    return training.train([NETWORK], RECIPE, TASK, [SEED])[0]


def equal(found: Trained, expected: Trained) -> None:
    assert found.losses == expected.losses
    assert found.weights.keys() == expected.weights.keys()
    for name, words in found.weights.items():
        np.testing.assert_array_equal(words, expected.weights[name], err_msg=name)


@pytest.mark.parametrize("stops", [(1,), (2,), (3,), (4,), (5,), (1, 2, 3, 4, 5)], ids=str)
def test_stopped_stored_and_taken_on_equals_run_through(stops: tuple[int, ...], whole: Trained) -> None:
    now = training.begin(NETWORK, RECIPE, SEED)
    for stop in stops:
        (now,) = training.advance([now], TASK, stop)
        assert now.epochs == stop
        now = training.from_bytes(training.to_bytes(now), NETWORK, RECIPE, TASK, SEED)
    (now,) = training.advance([now], TASK, RECIPE.total_epochs)
    equal(training.trained(now, TASK), whole)


def test_the_pressure_on_states_goes_on_where_it_stopped() -> None:
    recipe = Recipe(epochs=3)
    expected = training.train([SPARSE], recipe, TASK, [SEED])[0]
    (now,) = training.advance([training.begin(SPARSE, recipe, SEED)], TASK, 1)
    now = training.from_bytes(training.to_bytes(now), SPARSE, recipe, TASK, SEED)
    (now,) = training.advance([now], TASK, 3)
    equal(training.trained(now, TASK), expected)


def test_a_parent_trained_before_takes_the_place_of_the_dense_phase(whole: Trained) -> None:
    network, recipe = training.parent_of(NETWORK, RECIPE) or pytest.fail("has a dense phase")
    parent = training.train([network], recipe, TASK, [SEED])[0]
    assert parent.losses == whole.losses[:2]
    now = training.begin(NETWORK, RECIPE, SEED, (parent.weights, parent.losses))
    (now,) = training.advance([now], TASK, RECIPE.total_epochs)
    equal(training.trained(now, TASK), whole)


def test_networks_of_one_shape_share_their_parent() -> None:
    other = NETWORK.model_copy(update={"input_kernel": Kernel(weights="binary"), "head_weights": NETWORK.activations})
    assert training.parent_of(other, RECIPE) == training.parent_of(NETWORK, RECIPE)
    wider = NETWORK.model_copy(update={"hidden": 24})
    assert training.parent_of(wider, RECIPE) != training.parent_of(NETWORK, RECIPE)
    assert training.parent_of(NETWORK, Recipe(epochs=2)) is None


def test_snapshots_taken_while_an_epoch_is_reported_are_checkpoints() -> None:
    recipe, found = Recipe(epochs=3), {}
    started = [training.begin(SPARSE, recipe, SEED)]
    (end,) = training.advance(started, TASK, 3, lambda epoch, now: found.update({epoch: now()[0]}))
    assert [found[epoch].epochs for epoch in (1, 2, 3)] == [1, 2, 3]
    (later,) = training.advance([found[1]], TASK, 3)
    equal(training.trained(later, TASK), training.trained(end, TASK))


@pytest.mark.parametrize("damage", [lambda b: b[:200], lambda b: b"", lambda b: b.replace(b"pressure", b"presence")])
def test_bytes_that_are_no_checkpoint_are_refused(damage) -> None:
    recipe = Recipe(epochs=1)
    (now,) = training.advance([training.begin(SPARSE, recipe, SEED)], TASK, 1)
    content = training.to_bytes(now)
    with pytest.raises(DataError, match="a checkpoint cannot be read"):
        training.from_bytes(damage(content), SPARSE, recipe, TASK, SEED)
    with pytest.raises(DataError, match="of another network"):
        training.from_bytes(content, SPARSE.model_copy(update={"hidden": 12}), recipe, TASK, SEED)
