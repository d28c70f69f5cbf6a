"""Training a network, and looking at what came out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from codesign.compression import Dense, Structure
from codesign.design import ACTIVITY_BATCHES, ACTIVITY_BLOCKS, Activity, Exact, Float, Kernel, Network, Recipe
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

VERSION = 5
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
    return Chunks(*(jax.device_put(array) for array in (pieces.x, pieces.y, pieces.mask, pieces.real)))


def build(network: Network, task: Task, seed: int) -> RecurrentNetwork:
    """The untrained model."""
    return RecurrentNetwork(network, task.shape, seed)


@dataclass(frozen=True)
class Checkpoint:
    """A training after some epoch: all that is needed to go on as if it had never stopped.

    Attributes:
        network, recipe, seed: what is trained.
        losses: training means of the epochs done, in nats.
        seconds: spent on them.
        member: the state; None before the first epoch.
        parent: words and biases that take the place of the recipe's dense phase; None without.
    """

    network: Network
    recipe: Recipe
    seed: int
    losses: tuple[float, ...] = ()
    seconds: float = 0.0
    member: Member | None = None
    parent: Weights | None = None

    @property
    def epochs(self) -> int:
        """Epochs done, those of the parent included."""
        return len(self.losses)


OnEpoch = Callable[[int, Callable[[], list[Checkpoint]]], None]
"""Told how many epochs are done, and what makes checkpoints of the trainings as they are now."""


def begin(
    network: Network, recipe: Recipe, seed: int, parent: tuple[Weights, tuple[float, ...]] | None = None
) -> Checkpoint:
    """A training before its first epoch.

    Args:
        parent: weights and losses of the trained `parent_of(network, recipe)` with the same seed. The dense
            phase is then not run again; what comes out is the same to the last bit.
    """
    weights, losses = parent if parent is not None else (None, ())
    return Checkpoint(network, recipe, seed, losses=losses, parent=weights)


def parent_of(network: Network, recipe: Recipe) -> tuple[Network, Recipe] | None:
    """The network that the recipe's dense phase trains, and how; None where there is no such phase."""
    if not recipe.dense_epochs:
        return None
    phases = {"epochs": recipe.dense_epochs, "dense_epochs": 0, "admm_epochs": 0}
    unused = {name: Recipe.model_fields[name].default for name in ("admm_rho", "admm_growth", "later_rate")}
    return dense_parent(network), recipe.model_copy(update=phases | unused)


def dense_parent(network: Network) -> Network:
    """The same network with dense kernels and all numbers in float, its activation function exact.

    Networks of one shape share it. Tensor kernels stay what they are: their words are no dense kernel's.
    """
    names = ("input_kernel", "recurrent_kernel", "projection_kernel")
    kernels: dict[str, Any] = {}
    for name in names:
        structure = getattr(network, name).structure
        kernels[name] = Kernel(structure=Dense() if isinstance(structure, Structure) else structure, weights=Float())
    numbers = dict.fromkeys(("head_weights", "embedding_weights", "activations"), Float())
    rest = {"activation_function": Exact(), "state_threshold": 0.0, "state_sparsity": 0.0}
    return network.model_copy(update={**kernels, **numbers, **rest})


class Phase(NamedTuple):
    """A stretch of epochs with a warm-up and a cosine of its own.

    Attributes:
        kind: "dense", "admm" or "final", in which the network itself is trained.
        number: 0 for the first that a recipe has.
        first: epochs before it.
        epochs: it lasts.
    """

    kind: str
    number: int
    first: int
    epochs: int


def phases(recipe: Recipe) -> list[Phase]:
    """A recipe's phases, in order."""
    lengths = [("dense", recipe.dense_epochs), ("admm", recipe.admm_epochs), ("final", recipe.epochs)]
    found: list[Phase] = []
    for kind, epochs in lengths:
        if epochs:
            found.append(Phase(kind, len(found), sum(phase.epochs for phase in found), epochs))
    return found


def compile_key(network: Network, task: Task, seed: int) -> str:
    """Names the program that trains a network; networks that share it can be trained side by side."""
    return str(hash(split(build(network, task, seed))[0]))


def advance(
    checkpoints: Sequence[Checkpoint], task: Task, epochs: int, on_epoch: OnEpoch = lambda epochs, now: None
) -> list[Checkpoint]:
    """Trainings of one compile key, taken on side by side until so many epochs are done.

    Args:
        checkpoints: of one recipe and equally far; networks equal in all that is static (cell, layers, hidden,
            activation segments).
        task: what they learn.
        epochs: to be done in the end, those done before included.
        on_epoch: called with the number of epochs done, and what makes checkpoints of them.

    Raises:
        TrainingError: if a loss is not finite.
        ValueError: if the networks do not share a compile key.
    """
    recipe = checkpoints[0].recipe
    data = training_chunks(task, recipe.sequence_length, recipe.batch_size)
    while checkpoints[0].epochs < epochs:
        phase = next(p for p in phases(recipe) if checkpoints[0].epochs < p.first + p.epochs)
        last = min(epochs, phase.first + phase.epochs)
        checkpoints = _in_phase(checkpoints, task, data, phase, last, on_epoch)
    return list(checkpoints)


def _in_phase(
    checkpoints: Sequence[Checkpoint],
    task: Task,
    data: Chunks,
    phase: Phase,
    last: int,
    on_epoch: OnEpoch,
) -> list[Checkpoint]:
    """Trainings taken on within a phase."""
    began = time.monotonic()
    recipe = checkpoints[0].recipe
    graphs, members = zip(*(_member(one, task, phase) for one in checkpoints), strict=True)
    if any(graph != graphs[0] for graph in graphs):
        raise ValueError("networks of one population must share everything that is static")
    population = _stacked(members)
    losses: list[NDArray[np.float32]] = []

    def now() -> list[Checkpoint]:
        seconds = (time.monotonic() - began) / len(checkpoints)
        seen = jax.tree.map(_on_host, population)
        return [
            replace(
                one,
                losses=one.losses + tuple(float(loss[index]) for loss in losses),
                seconds=one.seconds + seconds,
                member=jax.tree.map(lambda leaf, index=index: leaf[index], seen),
            )
            for index, one in enumerate(checkpoints)
        ]

    for epoch in range(checkpoints[0].epochs + 1, last + 1):
        stateful = task.training == "stream"
        population, loss = train_epoch(graphs[0], recipe.batch_size, stateful, population, data)
        losses.append(np.asarray(loss))
        if not np.isfinite(losses[-1]).all():
            raise TrainingError(
                f"the loss is not finite after epoch {epoch}; use a smaller recipe.learning_rate "
                f"than {recipe.learning_rate}"
            )
        if population.admm is not None:
            words = admm.words_of(population.params, population.admm.targets)
            step = jax.vmap(partial(admm.update, growth=recipe.admm_growth))
            population = population._replace(admm=step(population.admm, words))
        on_epoch(epoch, now)
    return now()


def _member(checkpoint: Checkpoint, task: Task, phase: Phase) -> tuple[Any, Member]:
    """The static graph and the state from which the next epoch of a phase goes on."""
    if checkpoint.epochs == phase.first:
        member = first_state(checkpoint, task, phase)
    else:
        assert checkpoint.member is not None
        member = checkpoint.member
    return split(build(_trained_in(checkpoint.network, phase), task, checkpoint.seed))[0], member


def _trained_in(network: Network, phase: Phase) -> Network:
    return network if phase.kind == "final" else dense_parent(network)


def first_state(checkpoint: Checkpoint, task: Task, phase: Phase) -> Member:
    """The state with which a phase begins, made from what the phase before it left."""
    recipe, seed = checkpoint.recipe, checkpoint.seed
    network = _trained_in(checkpoint.network, phase)
    _, params, traced = split(build(network, task, seed))
    targets, state = None, None
    if phase.kind == "admm" or (phase.kind == "final" and phase.number):
        targets = admm.targets_of(build(checkpoint.network, task, seed))
    if checkpoint.member is not None:
        params = _filled(params, flat(checkpoint.member.params))
    elif checkpoint.parent is not None:
        params = _filled(params, checkpoint.parent)
    if targets is not None and phase.kind == "admm":
        state = admm.begin(targets, admm.words_of(params, targets), recipe.admm_rho)
    elif targets is not None:
        params = _projected(params, targets)
    factor = recipe.later_rate if phase.number else 1.0
    settings = Settings(
        learning_rate=jax.device_put(np.float32(factor * recipe.peak_learning_rate(network.hidden))),
        n_steps=jax.device_put(np.float32(phase.epochs * steps_per_epoch(recipe, task))),
        warmup=jax.device_put(np.float32(recipe.warmup)),
        max_gradient_norm=jax.device_put(np.float32(recipe.max_gradient_norm)),
        state_sparsity=jax.device_put(np.float32(network.state_sparsity)),
    )
    key = jax.random.key(seed)
    return Member(
        params=params,
        traced=traced,
        optimizer=jax.tree.map(lambda moment: np.zeros(moment.shape, moment.dtype), jax.eval_shape(ADAM.init, params)),
        key=jax.random.fold_in(key, phase.number) if phase.number else key,
        step=jax.device_put(np.int32(0)),
        settings=settings,
        pressure=first_pressure(network.layers, network.state_sparsity),
        admm=state,
    )


def steps_per_epoch(recipe: Recipe, task: Task) -> int:
    """Updates of the optimizer in an epoch."""
    data = training_chunks(task, recipe.sequence_length, recipe.batch_size)
    return max(1, len(data.mask) // recipe.batch_size)


def train(
    networks: Sequence[Network],
    recipe: Recipe,
    task: Task,
    seeds: Sequence[int],
    on_epoch: Callable[[int], None] = lambda _: None,
) -> list[Trained]:
    """Train networks of one compile key side by side, from the first epoch to the last.

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
    started = [begin(network, recipe, seed) for network, seed in zip(networks, seeds, strict=True)]
    return [trained(one, task) for one in advance(started, task, recipe.total_epochs, lambda done, _: on_epoch(done))]


def trained(checkpoint: Checkpoint, task: Task) -> Trained:
    """The network as it is at a checkpoint of its last phase, constants of batch normalisation measured."""
    network, recipe, seed = checkpoint.network, checkpoint.recipe, checkpoint.seed
    assert checkpoint.member is not None
    params = checkpoint.member.params
    if network.batch_norm.kind != "none":
        data = training_chunks(task, recipe.sequence_length, recipe.batch_size)
        graph, _, traced = split(build(network, task, seed))
        stateful = task.training == "stream"
        params = calibrate(graph, recipe.batch_size, stateful, params, traced, data, jax.random.key(seed))
    return Trained(network, seed, flat(params), checkpoint.losses, checkpoint.seconds)


def _stacked(trees: Sequence[Any]) -> Any:
    """Trees as one with a leading axis; always a copy, because an epoch takes its members' memory."""
    return jax.device_put(jax.tree.map(_together, *trees))


def _together(*leaves: Any) -> Any:
    if _is_key(leaves[0]):
        return jnp.stack(leaves)
    return np.stack([_on_host(leaf) for leaf in leaves])  # on a device it would be compiled for each shape


def _on_host(leaf: Any) -> Any:
    return leaf if _is_key(leaf) else np.asarray(leaf)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _projected(params: Any, targets: dict[str, admm.Target]) -> Any:
    """Dense parameters with the words of every kernel projected onto its structure."""
    words = admm.words_of(params, targets)
    compact = {f"{name}.words": admm.compact(targets[name], words[name]) for name in words}
    return jax.tree_util.tree_map_with_path(lambda path, leaf: compact.get(dotted(path), leaf), params)


def _filled(params: Any, weights: Weights) -> Any:
    """Parameters with given values, by dotted name."""
    return jax.tree_util.tree_map_with_path(lambda path, _: jax.device_put(weights[dotted(path)]), params)


def restore(network: Network, task: Task, seed: int, weights: Weights) -> RecurrentNetwork:
    """The model with given weights; `seed` draws its random structure again."""
    model = build(network, task, seed)
    _, params, _ = split(model)
    nnx.update(model, _filled(params, weights))
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
    return jax.device_put(np.pad(x, short + [(0, 0)] * (x.ndim - 2))), jax.device_put(np.pad(y, short))


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
