"""Training a network, and looking at what came out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from codesign import tasks
from codesign.design import ACTIVITY_BLOCKS, Activity, Network, Recipe, TaskRef
from codesign.errors import TrainingError
from codesign.models import RecurrentNetwork
from codesign.training.step import (
    ADAM,
    Chunks,
    Member,
    Settings,
    predict,
    split,
    train_epoch,
)

Weights = dict[str, NDArray[np.float32]]
"""Trained words and biases by dotted name, for instance layers.0.recurrent_kernel.words."""

VERSION = 1
"""Raised whenever a change here or in models makes the same network train to another result."""


@dataclass(frozen=True)
class Trained:
    """A trained network. `losses` are training means per epoch, in nats."""

    network: Network
    seed: int
    weights: Weights
    losses: tuple[float, ...]
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one split, and the state activity that was seen."""

    metrics: dict[str, float]
    activity: Activity


@lru_cache(maxsize=2)
def splits(task: TaskRef) -> tasks.Splits:
    """The data of a task, read once."""
    return tasks.find(task.name).splits(task.subset)


@lru_cache(maxsize=2)
def _chunks(task: TaskRef, length: int) -> Chunks:
    pieces = splits(task).train.chunks(length)
    return Chunks(*(jnp.asarray(array) for array in (pieces.x, pieces.y, pieces.mask)))


def build(network: Network, task: TaskRef, seed: int) -> RecurrentNetwork:
    """The untrained model."""
    shape = tasks.find(task.name)
    return RecurrentNetwork(network, shape.n_inputs, shape.n_outputs, seed)


def train(
    networks: Sequence[Network],
    recipe: Recipe,
    task: TaskRef,
    seeds: Sequence[int],
    on_epoch: Callable[[int], None] = lambda _: None,
) -> list[Trained]:
    """Train networks of one compile key side by side.

    Args:
        networks: equal in all that is static (cell, layers, hidden, activation segments).
        recipe: shared by all.
        task: what they learn.
        seeds: one for each network: initial words, random structure, order of the data.
        on_epoch: called with the number of epochs done.

    Raises:
        TrainingError: if a loss is not finite.
        ValueError: if the networks do not share a compile key.
    """
    began = time.monotonic()
    data = _chunks(task, recipe.sequence_length)
    parts = [split(build(network, task, seed)) for network, seed in zip(networks, seeds, strict=True)]
    graph = parts[0][0]
    if any(other != graph for other, _, _ in parts):
        raise ValueError("networks of one population must share cell, layers, hidden size and segments")
    settings = Settings(
        learning_rate=jnp.float32(recipe.peak_learning_rate(networks[0].hidden)),
        n_steps=jnp.float32(recipe.epochs * max(1, len(data.mask) // recipe.batch_size)),
        warmup=jnp.float32(recipe.warmup),
        max_gradient_norm=jnp.float32(recipe.max_gradient_norm),
    )
    members = [
        Member(params, traced, ADAM.init(params), jax.random.key(seed), jnp.int32(0), settings)
        for (_, params, traced), seed in zip(parts, seeds, strict=True)
    ]
    population = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    losses = []
    for epoch in range(recipe.epochs):
        population, loss = train_epoch(graph, recipe.batch_size, population, data)
        losses.append(np.asarray(loss))
        if not np.isfinite(losses[-1]).all():
            raise TrainingError(
                f"the loss is not finite after epoch {epoch + 1}; use a smaller recipe.learning_rate "
                f"than {recipe.learning_rate}"
            )
        on_epoch(epoch + 1)
    seconds = (time.monotonic() - began) / len(networks)
    return [
        Trained(
            network=network,
            seed=seed,
            weights=flat(jax.tree.map(lambda leaf, index=index: leaf[index], population.params)),
            losses=tuple(float(loss[index]) for loss in losses),
            seconds=seconds,
        )
        for index, (network, seed) in enumerate(zip(networks, seeds, strict=True))
    ]


def restore(network: Network, task: TaskRef, seed: int, weights: Weights) -> RecurrentNetwork:
    """The model with given weights; `seed` draws its random structure again."""
    model = build(network, task, seed)
    _, params, _ = split(model)
    values = [jnp.asarray(weights[_name(path)]) for path, _ in jax.tree.leaves_with_path(params)]
    nnx.update(model, jax.tree.unflatten(jax.tree.structure(params), values))
    return model


def evaluate(model: RecurrentNetwork, task: TaskRef, split_name: str) -> Evaluation:
    """Metrics and activity on the "validation" or "test" split."""
    data = splits(task)
    truth: tasks.Sequences = getattr(data, split_name)
    graph, params, traced = split(model)
    prediction = predict(graph, params, traced, jnp.asarray(truth.x))
    scores = np.asarray(prediction.log_probabilities).swapaxes(0, 1)
    if not np.isfinite(scores[truth.mask > 0]).all():
        raise TrainingError("the trained network puts out numbers that are not finite")
    metrics = tasks.find(task.name).score(scores, truth, data.train)
    counted = truth.mask.T > 0
    hidden = [layer.hidden for layer in model.layers]
    return Evaluation(metrics, tuple(map(lambda b, h: _histograms(b, h, counted), prediction.nonzero_blocks, hidden)))


def _histograms(
    per_block_size: list[jax.Array], hidden: int, counted: NDArray[np.bool_]
) -> dict[int, tuple[float, ...]]:
    histograms = {}
    for block, nonzero in zip(ACTIVITY_BLOCKS, per_block_size, strict=True):
        steps = np.bincount(np.asarray(nonzero)[counted], minlength=-(-hidden // block) + 1)
        histograms[block] = tuple((steps / steps.sum()).tolist())
    return histograms


def flat(params: Any) -> Weights:
    """Parameters by dotted name."""
    return {_name(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(params)}


def _name(path: Any) -> str:
    keys = (str(getattr(part, "key", getattr(part, "name", part))) for part in path)
    return ".".join(key for key in keys if key not in ("value", "raw_value"))
