"""Training a network, and looking at what came out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from codesign.compression import Dense, Structure
from codesign.design import ACTIVITY_BATCHES, ACTIVITY_BLOCKS, Activity, Kernel, Network, Recipe
from codesign.errors import TrainingError
from codesign.models import RecurrentNetwork
from codesign.tasks import Answers, Sequences, Splits, Task
from codesign.training import admm
from codesign.training.admm import dotted
from codesign.training.step import (
    ADAM,
    Chunks,
    Member,
    Settings,
    calibrate,
    first_pressure,
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
    return Chunks(*(jnp.asarray(array) for array in (pieces.x, pieces.y, pieces.mask, pieces.real)))


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
    models = [build(network, task, seed) for network, seed in zip(networks, seeds, strict=True)]
    if any(split(model)[0] != split(models[0])[0] for model in models):
        raise ValueError("networks of one population must share everything that is static")
    run = _Run(networks, recipe, task, seeds, data, on_epoch)
    if recipe.dense_epochs + recipe.admm_epochs:
        dense = [build(dense_parent(network), task, seed) for network, seed in zip(networks, seeds, strict=True)]
        params = run.phase(dense, recipe.dense_epochs) if recipe.dense_epochs else run.stacked(dense)
        targets = _stacked([admm.targets_of(model) for model in models])
        if recipe.admm_epochs:
            params = run.phase(dense, recipe.admm_epochs, params, targets)
        params = _projected(params, targets)
        params = run.phase(models, recipe.epochs, params)
    else:
        params = run.phase(models, recipe.epochs)
    params = run.calibrated(models, params)
    seconds = (time.monotonic() - began) / len(networks)
    return [
        Trained(
            network=network,
            seed=seed,
            weights=flat(jax.tree.map(lambda leaf, index=index: leaf[index], params)),
            losses=tuple(float(loss[index]) for loss in run.losses),
            seconds=seconds,
        )
        for index, (network, seed) in enumerate(zip(networks, seeds, strict=True))
    ]


def dense_parent(network: Network) -> Network:
    """The same network with dense kernels; tensor kernels stay as they are, in all phases."""
    names = ("input_kernel", "recurrent_kernel", "projection_kernel")
    kernels: dict[str, Kernel] = {name: getattr(network, name) for name in names}
    return network.model_copy(
        update={
            name: kernel.model_copy(update={"structure": Dense()})
            for name, kernel in kernels.items()
            if isinstance(kernel.structure, Structure)
        }
    )


class _Run:
    """The phases of one training, of a population side by side."""

    def __init__(
        self,
        networks: Sequence[Network],
        recipe: Recipe,
        task: Task,
        seeds: Sequence[int],
        data: Chunks,
        on_epoch: Callable[[int], None],
    ) -> None:
        self.networks, self.recipe, self.seeds, self.data, self.on_epoch = networks, recipe, seeds, data, on_epoch
        self.stateful = task.training == "stream"
        self.losses: list[NDArray[np.float32]] = []
        self.n_phases = 0

    def stacked(self, models: Sequence[RecurrentNetwork]) -> Any:
        """Parameters of models, with a leading axis of members."""
        return _stacked([split(model)[1] for model in models])

    def phase(
        self,
        models: Sequence[RecurrentNetwork],
        n_epochs: int,
        params: Any = None,
        targets: dict[str, admm.Target] | None = None,
    ) -> Any:
        """Parameters after so many epochs, from the models' own or given ones; with targets, by ADMM.

        Raises:
            TrainingError: if a loss is not finite.
        """
        graph, recipe = split(models[0])[0], self.recipe
        params = self.stacked(models) if params is None else params
        members = []
        for index, (model, network) in enumerate(zip(models, self.networks, strict=True)):
            mine, traced = jax.tree.map(lambda leaf, index=index: leaf[index], params), split(model)[2]
            key = jax.random.fold_in(jax.random.key(self.seeds[index]), self.n_phases)
            if self.n_phases == 0:
                key = jax.random.key(self.seeds[index])
            settings = self._settings(network, n_epochs)
            pressure = first_pressure(network.layers, network.state_sparsity)
            members.append(Member(mine, traced, ADAM.init(mine), key, jnp.int32(0), settings, pressure))
        population = _stacked(members)
        if targets is not None:
            words = admm.words_of(params, targets)
            state = jax.vmap(partial(admm.begin, rho=recipe.admm_rho))(targets, words)
            population = population._replace(admm=jax.tree.map(jnp.copy, state))  # an epoch takes its memory
        for _ in range(n_epochs):
            population, loss = train_epoch(graph, recipe.batch_size, self.stateful, population, self.data)
            self.losses.append(np.asarray(loss))
            if not np.isfinite(self.losses[-1]).all():
                raise TrainingError(
                    f"the loss is not finite after epoch {len(self.losses)}; use a smaller recipe.learning_rate "
                    f"than {recipe.learning_rate}"
                )
            if population.admm is not None:
                words = admm.words_of(population.params, population.admm.targets)
                step = jax.vmap(partial(admm.update, growth=recipe.admm_growth))
                population = population._replace(admm=step(population.admm, words))
            self.on_epoch(len(self.losses))
        self.n_phases += 1
        return population.params

    def _settings(self, network: Network, n_epochs: int) -> Settings:
        recipe = self.recipe
        factor = recipe.later_rate if self.n_phases else 1.0
        return Settings(
            learning_rate=jnp.float32(factor * recipe.peak_learning_rate(network.hidden)),
            n_steps=jnp.float32(n_epochs * max(1, len(self.data.mask) // recipe.batch_size)),
            warmup=jnp.float32(recipe.warmup),
            max_gradient_norm=jnp.float32(recipe.max_gradient_norm),
            state_sparsity=jnp.float32(network.state_sparsity),
        )

    def calibrated(self, models: Sequence[RecurrentNetwork], params: Any) -> Any:
        """Parameters with the constants of batch normalisation, measured on training data."""
        if self.networks[0].batch_norm.kind == "none":
            return params
        one_by_one = []
        for index, model in enumerate(models):
            graph, _, traced = split(model)
            mine = jax.tree.map(lambda leaf, index=index: leaf[index], params)
            key = jax.random.key(self.seeds[index])
            one_by_one.append(calibrate(graph, self.recipe.batch_size, self.stateful, mine, traced, self.data, key))
        return _stacked(one_by_one)


def _stacked(trees: Sequence[Any]) -> Any:
    """Trees as one with a leading axis; always a copy, because an epoch takes its members' memory."""
    return jax.tree.map(lambda *leaves: jnp.array(jnp.stack(leaves), copy=True), *trees)


def _projected(params: Any, targets: dict[str, admm.Target]) -> Any:
    """Dense parameters with the words of every kernel projected onto its structure."""
    words = admm.words_of(params, targets)
    compact = {f"{name}.words": jax.vmap(admm.compact)(targets[name], words[name]) for name in words}
    return jax.tree_util.tree_map_with_path(lambda path, leaf: compact.get(dotted(path), leaf), params)


def restore(network: Network, task: Task, seed: int, weights: Weights) -> RecurrentNetwork:
    """The model with given weights; `seed` draws its random structure again."""
    model = build(network, task, seed)
    _, params, _ = split(model)
    values = [jnp.asarray(weights[dotted(path)]) for path, _ in jax.tree.leaves_with_path(params)]
    nnx.update(model, jax.tree.unflatten(jax.tree.structure(params), values))
    return model


def evaluate(model: RecurrentNetwork, task: Task, split_name: str, draw: int | None = None) -> Evaluation:
    """Metrics and activity on the "validation" or "test" split.

    Args:
        draw: number of a draw of stochastic words, one for the whole split; None decides every word, which
            is what an export holds. The papers report drawn words: take the mean over several draws.
    """
    data = splits(task)
    truth: Sequences = getattr(data, split_name)
    if task.training == "stream":
        truth = truth.streams(max(1, truth.mask.shape[1] // STREAM_STEPS))
    key = None if draw is None else jax.random.key(draw)
    answers, activity = _answers(model, truth, task.decodes, key)
    if not np.isfinite(answers.surprise[truth.mask > 0]).all():
        raise TrainingError("the trained network puts out numbers that are not finite")
    return Evaluation(task.score(answers, truth, data.train), activity)


def _answers(
    model: RecurrentNetwork, truth: Sequences, keep_scores: bool, key: jax.Array | None
) -> tuple[Answers, Activity]:
    """Passes over all sequences, some at a time where they are many, piece by piece where they are long."""
    graph, params, traced = split(model)
    n, time = truth.mask.shape
    widest = max(
        truth.x.shape[-1] if truth.x.ndim == 3 else 1,
        model.bias.shape[0],
        sum(4 * layer.hidden if truth.x.ndim == 2 else layer.hidden for layer in model.layers),
    )
    # short enough for the streams whose activity is counted together, where there are so many
    length = min(time, max(1, PASS_ENTRIES // (widest * min(n, max(ACTIVITY_BATCHES)))))
    n_rows = min(n, max(1, PASS_ENTRIES // (widest * length)))
    n_rows -= n_rows % max(streams for streams in ACTIVITY_BATCHES if streams <= n_rows)
    sizes = [[-(-layer.state // block) + 1 for block in ACTIVITY_BLOCKS] for layer in model.layers]
    counts = [{streams: [np.zeros(size) for size in layer] for streams in ACTIVITY_BATCHES} for layer in sizes]
    best, surprise = np.zeros((n, time), np.int32), np.zeros((n, time), np.float32)
    scores = np.zeros((n, time, model.bias.shape[0]), np.float32) if keep_scores else None
    for row in range(0, n, n_rows):
        carries = None
        for start in range(0, time, length):
            here = (slice(row, row + n_rows), slice(start, start + length))
            x, y = _whole(truth, here, n_rows, length)
            found = predict(graph, params, traced, x, y, carries, keep_scores, key, start)
            rows, steps = truth.mask[here].shape
            best[here], surprise[here] = found.best[:rows, :steps], found.surprise[:rows, :steps]
            if scores is not None:
                scores[here] = found.log_probabilities[:rows, :steps]
            _count(counts, found.nonzero_blocks, truth.real[here])
            carries = found.carries
    return Answers(best, surprise, scores), tuple(_activity(layer) for layer in counts)


def _whole(truth: Sequences, here: Any, n_rows: int, length: int) -> tuple[jax.Array, jax.Array]:
    """x and y of a pass, filled up with zeros so that all passes have one shape and one program."""
    x, y = truth.x[here], truth.y[here]
    short = [(0, n_rows - y.shape[0]), (0, length - y.shape[1])]
    return jnp.asarray(np.pad(x, short + [(0, 0)] * (x.ndim - 2))), jnp.asarray(np.pad(y, short))


Histograms = dict[int, list[NDArray[np.float64]]]
"""Of one layer: by number of streams, then one for each block size of `ACTIVITY_BLOCKS`."""


def _count(counts: list[Histograms], nonzero: list[dict[int, list[jax.Array]]], real: NDArray[np.bool_]) -> None:
    """Add the steps of a pass to the histograms; streams side by side count while all of them last."""
    rows, steps = real.shape
    for streams in nonzero[0]:
        groups = rows // streams
        last = real[: groups * streams].reshape(groups, streams, steps).all(1)
        for layer, found in zip(counts, nonzero, strict=True):
            for histogram, blocks in zip(layer[streams], found[streams], strict=True):
                histogram += np.bincount(np.asarray(blocks)[:groups, :steps][last], minlength=len(histogram))


def _activity(counts: Histograms) -> dict[int, dict[int, tuple[float, ...]]]:
    """Shares of steps; without the batches for which there were too few sequences."""
    return {
        streams: {block: tuple((n / n.sum()).tolist()) for block, n in zip(ACTIVITY_BLOCKS, histograms, strict=True)}
        for streams, histograms in counts.items()
        if histograms[0].sum()
    }


def flat(params: Any) -> Weights:
    """Parameters by dotted name."""
    return {dotted(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(params)}
