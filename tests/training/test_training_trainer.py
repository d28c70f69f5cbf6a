"""Training on a task, from a recipe to weights, and networks made from weights again."""

import jax
import numpy as np
import pytest

from codesign import tasks
from codesign.compression import BlockCirculant, CoarseGrain
from codesign.design import ACTIVITY_BLOCKS, Kernel, Network, Recipe
from codesign.errors import TrainingError
from codesign.training import Evaluation, Trained, evaluate, restore, splits, train
from codesign.training.step import predict, split
from codesign.training.trainer import flat

TASK = tasks.find("ru_phones", subset="mini")
RECIPE = Recipe(epochs=1)
SEED = 3
COARSE = CoarseGrain(level1_block=4, level1_keep=0.5, level2_block=2, level2_keep=0.5)
NETWORK = Network(
    hidden=8,
    input_kernel=Kernel(structure=BlockCirculant(block_size=4)),
    recurrent_kernel=Kernel(structure=COARSE),
    state_threshold=0.1,
)


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train([NETWORK], RECIPE, TASK, [SEED])[0]


@pytest.fixture(scope="module")
def evaluation(trained: Trained) -> Evaluation:
    return evaluate(restore(NETWORK, TASK, SEED, trained.weights), TASK, "validation")


def test_one_epoch_beats_guessing(trained: Trained, evaluation: Evaluation) -> None:
    assert len(trained.losses) == 1
    assert trained.losses[0] < np.log(51)
    assert evaluation.metrics["error"] < 0.97


def test_the_same_seed_trains_the_same_weights(trained: Trained) -> None:
    done: list[int] = []
    again = train([NETWORK], RECIPE, TASK, [SEED], on_epoch=done.append)[0]
    assert done == [1]
    assert again.losses == trained.losses
    assert again.weights.keys() == trained.weights.keys()
    for name, value in trained.weights.items():
        np.testing.assert_array_equal(again.weights[name], value)


def test_weights_have_dotted_names(trained: Trained) -> None:
    assert sorted(trained.weights) == [
        "bias",
        "head.words",
        "layers.0.bias",
        "layers.0.input_kernel.words",
        "layers.0.recurrent_kernel.words",
    ]


def test_a_restored_network_holds_the_weights_and_draws_its_structure_again(trained: Trained) -> None:
    model = restore(NETWORK, TASK, SEED, trained.weights)
    for name, value in flat(split(model)[1]).items():
        np.testing.assert_array_equal(value, trained.weights[name])
    mask = np.asarray(model.layers[0].recurrent_kernel.mask[...]).T
    gates = [COARSE.layout(8, 8, (2 * SEED + 1) * 3 + gate).mask for gate in range(3)]
    np.testing.assert_array_equal(mask, np.concatenate(gates))


def test_restored_networks_predict_the_same(trained: Trained) -> None:
    data = splits(TASK).validation
    first, again = (
        predict(*split(restore(NETWORK, TASK, SEED, trained.weights)), data.x, data.y, None, True) for _ in range(2)
    )
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_seed_restores_another_network(trained: Trained, evaluation: Evaluation) -> None:
    other = evaluate(restore(NETWORK, TASK, SEED + 1, trained.weights), TASK, "validation")
    assert other.metrics["error"] != evaluation.metrics["error"]


def test_activity_is_a_histogram_of_counted_steps(trained: Trained, evaluation: Evaluation) -> None:
    data = splits(TASK).validation
    prediction = predict(*split(restore(NETWORK, TASK, SEED, trained.weights)), data.x, data.y, None, False)
    (batches,) = evaluation.activity
    for streams, histograms in batches.items():
        assert tuple(histograms) == ACTIVITY_BLOCKS
        n = len(data.mask) // streams * streams
        together = (data.mask[:n] > 0).reshape(-1, streams, data.mask.shape[1]).all(1)
        for block, counts in zip(ACTIVITY_BLOCKS, prediction.nonzero_blocks[0][streams], strict=True):
            seen = np.asarray(counts)[together]
            expected = [float(np.mean(seen == n)) for n in range(-(-8 // block) + 1)]
            np.testing.assert_allclose(histograms[block], expected, atol=1e-12)


def test_a_loss_that_is_not_finite_stops_the_training_with_one_line() -> None:
    with pytest.raises(TrainingError) as caught:
        train([NETWORK], RECIPE.model_copy(update={"learning_rate": 1e38}), TASK, [SEED])
    assert str(caught.value) == ("the loss is not finite after epoch 1; use a smaller recipe.learning_rate than 1e+38")


def test_networks_of_different_compile_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="must share everything that is static"):
        train([NETWORK, NETWORK.model_copy(update={"layers": 2})], RECIPE, TASK, [0, 1])


@pytest.mark.parametrize("hidden", [32, 64, 256])
def test_the_peak_learning_rate_falls_with_the_square_root_of_the_size(hidden: int) -> None:
    assert Recipe(learning_rate=0.02).peak_learning_rate(hidden) == pytest.approx(0.02 * (64 / hidden) ** 0.5)
