"""One compiled epoch for many networks.

All that may differ between trials of one compile key - words, structure, word lengths, thresholds,
learning rate, seed - is an argument; what is static is the module graph (cell, layers, hidden size,
activation segments) and the shape of the data. The leading axis of every argument but the data is
the *population*: members train side by side, which pays on a GPU; on a CPU the population is 1.
"""

import os
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import platformdirs
from flax import nnx

from codesign.design import ACTIVITY_BATCHES, ACTIVITY_BLOCKS
from codesign.models import Carry, Mode, Pass, RecurrentNetwork, Traced
from codesign.training.admm import Admm, penalty

Tree = Any


class Member(NamedTuple):
    """The training state of one network, or of a population along the leading axis.

    Attributes:
        params: trained words and biases.
        traced: structure, word lengths, thresholds.
        optimizer: Adam's moments.
        key: of the data order.
        step: optimizer steps done.
        settings: traced numbers of the recipe.
        pressure: (layers,) on the size of the states; 0 where no sparsity is wanted.
        admm: the structure a dense network is drawn to; None outside ADMM.
    """

    params: Tree
    traced: Tree
    optimizer: Tree
    key: jax.Array
    step: jax.Array
    settings: "Settings"
    pressure: jax.Array
    admm: Admm | None = None


class Settings(NamedTuple):
    """The recipe's numbers that do not shape the program."""

    learning_rate: jax.Array
    n_steps: jax.Array
    warmup: jax.Array
    max_gradient_norm: jax.Array
    state_sparsity: jax.Array


class Chunks(NamedTuple):
    """Training pieces on the device: x (n, time, inputs) or tokens (n, time), y, mask and real (n, time).

    Pieces of parallel streams stand in the order of time: the first of every stream, then the second.
    """

    x: jax.Array
    y: jax.Array
    mask: jax.Array
    real: jax.Array


class Prediction(NamedTuple):
    """What a pass gives, batch first.

    Attributes:
        best: (batch, time) most probable class.
        surprise: (batch, time) -log of the true class's probability, in nats.
        log_probabilities: (batch, time, outputs), or None where nobody asked for them.
        nonzero_blocks: for each layer, each number of streams of `ACTIVITY_BATCHES` and each block size of
            `ACTIVITY_BLOCKS`: (batch // streams, time) state blocks with a non-zero entry in any stream.
        carries: every layer's, after the last step.
    """

    best: jax.Array
    surprise: jax.Array
    log_probabilities: jax.Array | None
    nonzero_blocks: list[dict[int, list[jax.Array]]]
    carries: list[Carry]


ADAM = optax.scale_by_adam()
CALIBRATION_BATCHES = 64
FIRST_PRESSURE = 0.5
LARGEST_MISS = 0.1  # share of zeros; a larger one counts as this
PROMPT_GAIN = 10.0  # log of the pull's growth for each missing zero (a share), at once
LASTING_GAIN = 80.0  # the same, and lasting, in a training that misses it throughout
LARGEST_PRESSURE = 100.0

# Compiled programs outlive the process, unless the user has chosen a folder for them or none.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    jax.config.update("jax_compilation_cache_dir", platformdirs.user_cache_dir("codesign"))  # type: ignore[no-untyped-call]
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)  # type: ignore[no-untyped-call]


def learning_rate(settings: Settings, step: jax.Array) -> jax.Array:
    """Linear warm-up, then a cosine that reaches zero as the last step is done."""
    done = step / settings.n_steps
    rising = (done + 1.0 / settings.n_steps) / jnp.maximum(settings.warmup, 1e-6)
    falling = (done - settings.warmup) / (1.0 - settings.warmup)
    cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(falling, 0.0, 1.0)))
    return settings.learning_rate * jnp.minimum(jnp.minimum(rising, 1.0), cosine)


def first_pressure(n_layers: int, sparsity: float) -> jax.Array:
    """Before the first step: (layers,)."""
    pressure: jax.Array = jax.device_put(np.full(n_layers, FIRST_PRESSURE if sparsity > 0 else 0.0, np.float32))
    return pressure


def sizes_and_zeros(made: Pass, real: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean size of the states' entries, and the share of zeros before the recurrent kernel, by layer over real steps.

    Args:
        real: (time, batch) 1 where a step is no padding.
    """
    n_real = jnp.maximum(real.sum(), 1.0)
    sizes = [jnp.sum(jnp.abs(h).mean(-1) * real) / n_real for h in made.dense]
    zeros = [jnp.sum((h == 0).mean(-1) * real) / n_real for h in made.states]
    return jnp.stack(sizes), jnp.stack(zeros)


def missing_zeros(zeros: jax.Array, settings: Settings) -> jax.Array:
    """Share of zeros that is wanted and not there, (layers,); negative where there are too many."""
    return jnp.clip(settings.state_sparsity - zeros, -LARGEST_MISS, LARGEST_MISS)


def pull_on_states(pressure: jax.Array, sizes: jax.Array, zeros: jax.Array, settings: Settings) -> jax.Array:
    """What the loss grows by: pressure * mean |h| over all layers, stronger while zeros are missing.

    All entries count, those below the threshold too: without a pull they grow until they survive it, as the
    gradient is straight-through. The paper sweeps the threshold. Raising the threshold in training toward a
    wanted share was tried and runs away: entries grow in order to survive, the threshold follows, and all
    states saturate.

    Args:
        pressure, sizes, zeros: (layers,), the latter two of one batch (`sizes_and_zeros`).
        settings: the wanted share.
    """
    return jnp.sum(pressure * jnp.exp(PROMPT_GAIN * missing_zeros(zeros, settings)) * sizes)


def moved_pressure(pressure: jax.Array, zeros: jax.Array, settings: Settings) -> jax.Array:
    """Pressure on the states' size, a little nearer to what gives the wanted share of zeros.

    Entries need hundreds of steps to follow. The prompt part of the pull brakes before they are too few, and
    a small first pressure lets a network learn before it is thinned out.

    Args:
        pressure, zeros: (layers,) share of zeros in a batch.
        settings: the wanted share, and the steps of the whole training.
    """
    rise = LASTING_GAIN / settings.n_steps * missing_zeros(zeros, settings)
    return jnp.minimum(LARGEST_PRESSURE, pressure * jnp.exp(rise))


def loss(
    graph: Tree,
    params: Tree,
    traced: Tree,
    batch: Chunks,
    carries: list[Carry] | None = None,
    key: jax.Array | None = None,
) -> tuple[jax.Array, Pass]:
    """Mean cross-entropy of the counted steps, in nats, and the pass it was computed from.

    Args:
        key: draws stochastic words.
    """
    mode = Mode(key, batch.real.T.astype(jnp.float32))
    made = nnx.merge(graph, params, traced)(batch.x.swapaxes(0, 1), carries, mode)
    losses = optax.softmax_cross_entropy_with_integer_labels(made.scores, batch.y.T)
    weights = batch.mask.T.astype(jnp.float32)
    return jnp.sum(losses * weights) / jnp.maximum(1.0, jnp.sum(weights)), made


def _epoch(graph: Tree, batch_size: int, stateful: bool, member: Member, data: Chunks) -> tuple[Member, jax.Array]:
    key, order_key = jax.random.split(member.key)
    n_batches = max(1, len(data.mask) // batch_size)
    stochastic = nnx.merge(graph, member.params, member.traced).stochastic
    draw_key = jax.random.fold_in(order_key, 1)
    rows = jnp.arange(len(data.mask)) if stateful else jax.random.permutation(order_key, len(data.mask))
    order = rows[: n_batches * batch_size]

    def objective(params: Tree, batch: Chunks, state: Any) -> tuple[jax.Array, tuple[Any, Any, jax.Array]]:
        _, _, count, pressure, carries = state
        draw = jax.random.fold_in(draw_key, count) if stochastic else None
        value, made = loss(graph, params, member.traced, batch, carries, draw)
        sizes, zeros = sizes_and_zeros(made, batch.real.T.astype(jnp.float32))
        pull = 0.0 if member.admm is None else penalty(member.admm, params)
        return value + pull_on_states(pressure, sizes, zeros, member.settings) + pull, (value, made.carries, zeros)

    def step(state: tuple[Tree, Tree, jax.Array, jax.Array, Any], rows: jax.Array) -> tuple[Any, jax.Array]:
        params, optimizer, count, pressure, _ = state
        batch = Chunks(*(array[rows] for array in data))
        compute = jax.value_and_grad(objective, has_aux=True)
        (_, (value, after, zeros)), gradient = compute(params, batch, state)
        norm = optax.tree.norm(gradient)
        shrink = jnp.minimum(1.0, member.settings.max_gradient_norm / jnp.maximum(norm, 1e-12))
        gradient = jax.tree.map(lambda g: g * shrink, gradient)
        updates, optimizer = ADAM.update(gradient, optimizer)
        rate = learning_rate(member.settings, count)
        params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
        pressure = moved_pressure(pressure, zeros, member.settings)
        return (params, optimizer, count + 1, pressure, after if stateful else None), value

    # a stream begins every epoch with a state of zero
    carries = nnx.merge(graph, member.params, member.traced).zero_carries(batch_size) if stateful else None
    start = (member.params, member.optimizer, member.step, member.pressure, carries)
    (params, optimizer, count, pressure, _), losses = jax.lax.scan(step, start, order.reshape(n_batches, -1))
    after = member._replace(params=params, optimizer=optimizer, key=key, step=count, pressure=pressure)
    return after, losses.mean()


@partial(jax.jit, static_argnames=("graph", "batch_size", "stateful"), donate_argnames=("member",))
def train_epoch(graph: Tree, batch_size: int, stateful: bool, member: Member, data: Chunks) -> tuple[Member, jax.Array]:
    """One pass over the chunks for a population: (new members, mean loss of each).

    Args:
        stateful: whether the chunks are consecutive pieces of `batch_size` streams, taken in order with
            the state carried on but no gradient (truncated back-propagation); else they are shuffled.
    """
    run = partial(_epoch, graph, batch_size, stateful)
    if len(member.step) > 1:
        return jax.vmap(run, in_axes=(0, None))(member, data)
    alone, value = run(jax.tree.map(lambda a: a[0], member), data)
    return jax.tree.map(lambda a: a[None], alone), value[None]


@partial(jax.jit, static_argnames=("graph", "batch_size", "stateful"))
def calibrate(
    graph: Tree, batch_size: int, stateful: bool, params: Tree, traced: Tree, data: Chunks, key: jax.Array
) -> Tree:
    """Parameters with the constants of batch normalisation: moments over some training batches.

    The released code of the paper follows them with a running average; measured afterwards, all of them
    belong to the final weights, stochastic words decided as in evaluation.
    """
    n_batches = min(CALIBRATION_BATCHES, max(1, len(data.mask) // batch_size))
    rows = jnp.arange(len(data.mask)) if stateful else jax.random.permutation(key, len(data.mask))
    order = rows[: n_batches * batch_size].reshape(n_batches, -1)
    model = nnx.merge(graph, params, traced)
    carries = model.zero_carries(batch_size) if stateful else None

    def step(carries: Any, rows: jax.Array) -> tuple[Any, Any]:
        batch = Chunks(*(array[rows] for array in data))
        _, made = loss(graph, params, traced, batch, carries)
        return made.carries if stateful else None, (made.moments, batch.real.sum(0))

    _, (moments, n_real) = jax.lax.scan(step, carries, order)
    for layer, seen in zip(model.layers, moments, strict=True):
        layer.batch_norm.set_moments(seen, n_real.astype(jnp.float32))
    return split(model)[1]


@partial(jax.jit, static_argnames=("graph", "keep_scores"))
def predict(
    graph: Tree,
    params: Tree,
    traced: Tree,
    x: jax.Array,
    y: jax.Array,
    carries: Any,
    keep_scores: bool,
    key: jax.Array | None = None,
    first: int = 0,
) -> Prediction:
    """Answers and state activity of one network over (batch, time, ...), from `carries` on (zeros if None).

    Args:
        key: draws stochastic words; None decides them.
        first: the first step's number in its sequence.
    """
    mode = Mode(key, first=first)
    made = nnx.merge(graph, params, traced)(x.swapaxes(0, 1), carries, mode)
    log_probabilities = jax.nn.log_softmax(made.scores).swapaxes(0, 1)
    surprise = -jnp.take_along_axis(log_probabilities, y[..., None].astype(jnp.int32), axis=-1)[..., 0]
    active = [
        {
            streams: [_nonzero_blocks(h, streams, block) for block in ACTIVITY_BLOCKS]
            for streams in ACTIVITY_BATCHES
            if streams <= h.shape[1]
        }
        for h in made.states
    ]
    best = log_probabilities.argmax(-1).astype(jnp.int32)
    return Prediction(best, surprise, log_probabilities if keep_scores else None, active, made.carries)


def _nonzero_blocks(h: jax.Array, streams: int, block: int) -> jax.Array:
    """Blocks of a state (time, batch, hidden) that are not zero throughout in so many rows of the batch at a time.

    Rows that fill no group are left out: (batch // streams, time).
    """
    time, batch, _ = h.shape
    groups, short = batch // streams, -h.shape[-1] % block
    active = (h[:, : groups * streams] != 0).reshape(time, groups, streams, -1).any(2)
    blocks = jnp.pad(active, [(0, 0), (0, 0), (0, short)]).reshape(time, groups, -1, block)
    return blocks.any(-1).sum(-1).T


def split(model: RecurrentNetwork) -> tuple[Tree, Tree, Tree]:
    """Static graph, trained parameters, traced data."""
    graph, *states = nnx.split(model, nnx.Param, Traced)
    params, traced = states
    return graph, params, traced
