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

from codesign.design import ACTIVITY_BLOCKS, Activity, Network, Recipe
from codesign.errors import TrainingError
from codesign.models import RecurrentNetwork
from codesign.tasks import Answers, Sequences, Splits, Task
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

PASS_ENTRIES = 2**26
"""Largest array of an evaluation pass, in entries; more sequences or longer ones go in several passes."""

STREAM_STEPS = 5_000
"""Least steps of a stream into which a text is cut for evaluation: each begins with a state of zero,
which costs some hundredths of a bit for its first characters only."""


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
def splits(task: Task) -> Splits:
    """The data of a task, read once."""
    task.require()
    return task.splits()


@lru_cache(maxsize=2)
def training_chunks(task: Task, length: int, batch_size: int) -> Chunks:
    """The training data of a task on the device, in the pieces that a recipe trains on.

    Args:
        length: of a piece; a task of whole sequences has no use for it.
        batch_size: streams trained side by side; only a task of one stream has a use for it.
    """
    pieces = splits(task).train
    if task.training == "pieces":
        pieces = pieces.chunks(length)
    elif task.training == "stream":
        pieces = pieces.stream_pieces(batch_size, length)
    return Chunks(*(jnp.asarray(array) for array in (pieces.x, pieces.y, pieces.mask)))


def build(network: Network, task: Task, seed: int) -> RecurrentNetwork:
    """The untrained model."""
    return RecurrentNetwork(network, task.shape, seed)


def train(
    networks: Sequence[Network],
    recipe: Recipe,
    task: Task,
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
    data = training_chunks(task, recipe.sequence_length, recipe.batch_size)
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
        population, loss = train_epoch(graph, recipe.batch_size, task.training == "stream", population, data)
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


def restore(network: Network, task: Task, seed: int, weights: Weights) -> RecurrentNetwork:
    """The model with given weights; `seed` draws its random structure again."""
    model = build(network, task, seed)
    _, params, _ = split(model)
    values = [jnp.asarray(weights[_name(path)]) for path, _ in jax.tree.leaves_with_path(params)]
    nnx.update(model, jax.tree.unflatten(jax.tree.structure(params), values))
    return model


def evaluate(model: RecurrentNetwork, task: Task, split_name: str) -> Evaluation:
    """Metrics and activity on the "validation" or "test" split."""
    data = splits(task)
    truth: Sequences = getattr(data, split_name)
    if task.training == "stream":
        truth = truth.streams(max(1, truth.mask.shape[1] // STREAM_STEPS))
    answers, activity = _answers(model, truth, task.decodes)
    if not np.isfinite(answers.surprise[truth.mask > 0]).all():
        raise TrainingError("the trained network puts out numbers that are not finite")
    return Evaluation(task.score(answers, truth, data.train), activity)


def _answers(model: RecurrentNetwork, truth: Sequences, keep_scores: bool) -> tuple[Answers, Activity]:
    """Passes over all sequences, some at a time where they are many, piece by piece where they are long."""
    graph, params, traced = split(model)
    n, time = truth.mask.shape
    widest = max(
        truth.x.shape[-1] if truth.x.ndim == 3 else 1,
        model.bias.shape[0],
        sum(4 * layer.hidden if truth.x.ndim == 2 else layer.hidden for layer in model.layers),
    )
    length = min(time, max(1, PASS_ENTRIES // widest))
    n_rows = min(n, max(1, PASS_ENTRIES // (widest * length)))
    counts = [[np.zeros(-(-layer.hidden // block) + 1) for block in ACTIVITY_BLOCKS] for layer in model.layers]
    best, surprise = np.zeros((n, time), np.int32), np.zeros((n, time), np.float32)
    scores = np.zeros((n, time, model.bias.shape[0]), np.float32) if keep_scores else None
    for row in range(0, n, n_rows):
        carries = None
        for start in range(0, time, length):
            here = (slice(row, row + n_rows), slice(start, start + length))
            found = predict(graph, params, traced, *_whole(truth, here, n_rows, length), carries, keep_scores)
            rows, steps = truth.mask[here].shape
            best[here], surprise[here] = found.best[:rows, :steps], found.surprise[:rows, :steps]
            if scores is not None:
                scores[here] = found.log_probabilities[:rows, :steps]
            _count(counts, found.nonzero_blocks, truth.real[here])
            carries = found.carries
    activity = tuple(
        {block: tuple((steps / steps.sum()).tolist()) for block, steps in zip(ACTIVITY_BLOCKS, layer, strict=True)}
        for layer in counts
    )
    return Answers(best, surprise, scores), activity


def _whole(truth: Sequences, here: Any, n_rows: int, length: int) -> tuple[jax.Array, jax.Array]:
    """x and y of a pass, filled up with zeros so that all passes have one shape and one program."""
    x, y = truth.x[here], truth.y[here]
    short = [(0, n_rows - y.shape[0]), (0, length - y.shape[1])]
    return jnp.asarray(np.pad(x, short + [(0, 0)] * (x.ndim - 2))), jnp.asarray(np.pad(y, short))


def _count(counts: list[list[NDArray[Any]]], nonzero: list[list[jax.Array]], real: NDArray[np.bool_]) -> None:
    """Add the steps of a pass to the histograms, layer by layer, block size by block size."""
    rows, steps = real.shape
    for layer, found in zip(counts, nonzero, strict=True):
        for histogram, blocks in zip(layer, found, strict=True):
            histogram += np.bincount(np.asarray(blocks)[:rows, :steps][real], minlength=len(histogram))


def flat(params: Any) -> Weights:
    """Parameters by dotted name."""
    return {_name(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(params)}


def _name(path: Any) -> str:
    keys = (str(getattr(part, "key", getattr(part, "name", part))) for part in path)
    return ".".join(key for key in keys if key not in ("value", "raw_value"))
