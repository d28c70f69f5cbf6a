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
import optax
import platformdirs
from flax import nnx

from codesign.design import ACTIVITY_BLOCKS
from codesign.models import Carry, RecurrentNetwork, Traced

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
    """

    params: Tree
    traced: Tree
    optimizer: Tree
    key: jax.Array
    step: jax.Array
    settings: "Settings"


class Settings(NamedTuple):
    """The recipe's numbers that do not shape the program."""

    learning_rate: jax.Array
    n_steps: jax.Array
    warmup: jax.Array
    max_gradient_norm: jax.Array


class Chunks(NamedTuple):
    """Training pieces on the device: x (n, time, inputs) or tokens (n, time), y and mask (n, time).

    Pieces of parallel streams stand in the order of time: the first of every stream, then the second.
    """

    x: jax.Array
    y: jax.Array
    mask: jax.Array


class Prediction(NamedTuple):
    """What a pass gives, batch first.

    Attributes:
        best: (batch, time) most probable class.
        surprise: (batch, time) -log of the true class's probability, in nats.
        log_probabilities: (batch, time, outputs), or None where nobody asked for them.
        nonzero_blocks: for each layer and each block size of `ACTIVITY_BLOCKS`: (batch, time) state
            blocks with a non-zero entry.
        carries: every layer's, after the last step.
    """

    best: jax.Array
    surprise: jax.Array
    log_probabilities: jax.Array | None
    nonzero_blocks: list[list[jax.Array]]
    carries: list[Carry]


ADAM = optax.scale_by_adam()

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


def loss(
    graph: Tree, params: Tree, traced: Tree, batch: Chunks, carries: list[Carry] | None = None
) -> tuple[jax.Array, list[Carry]]:
    """Mean cross-entropy of the counted steps, in nats, and the carries after the last step."""
    scores, _, after = nnx.merge(graph, params, traced)(batch.x.swapaxes(0, 1), carries)
    losses = optax.softmax_cross_entropy_with_integer_labels(scores, batch.y.T)
    weights = batch.mask.T.astype(jnp.float32)
    return jnp.sum(losses * weights) / jnp.maximum(1.0, jnp.sum(weights)), after


def _epoch(graph: Tree, batch_size: int, stateful: bool, member: Member, data: Chunks) -> tuple[Member, jax.Array]:
    key, order_key = jax.random.split(member.key)
    n_batches = max(1, len(data.mask) // batch_size)
    rows = jnp.arange(len(data.mask)) if stateful else jax.random.permutation(order_key, len(data.mask))
    order = rows[: n_batches * batch_size]

    def step(state: tuple[Tree, Tree, jax.Array, Any], rows: jax.Array) -> tuple[Any, jax.Array]:
        params, optimizer, count, carries = state
        batch = Chunks(*(array[rows] for array in data))
        compute = jax.value_and_grad(partial(loss, graph), has_aux=True)
        (value, after), gradient = compute(params, member.traced, batch, carries)
        norm = optax.tree.norm(gradient)
        shrink = jnp.minimum(1.0, member.settings.max_gradient_norm / jnp.maximum(norm, 1e-12))
        gradient = jax.tree.map(lambda g: g * shrink, gradient)
        updates, optimizer = ADAM.update(gradient, optimizer)
        rate = learning_rate(member.settings, count)
        params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
        return (params, optimizer, count + 1, after if stateful else None), value

    # a stream begins every epoch with a state of zero
    carries = nnx.merge(graph, member.params, member.traced).zero_carries(batch_size) if stateful else None
    start = (member.params, member.optimizer, member.step, carries)
    (params, optimizer, count, _), losses = jax.lax.scan(step, start, order.reshape(n_batches, -1))
    return member._replace(params=params, optimizer=optimizer, key=key, step=count), losses.mean()


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


@partial(jax.jit, static_argnames=("graph", "keep_scores"))
def predict(
    graph: Tree, params: Tree, traced: Tree, x: jax.Array, y: jax.Array, carries: Any, keep_scores: bool
) -> Prediction:
    """Answers and state activity of one network over (batch, time, ...), from `carries` on (zeros if None)."""
    scores, states, carries = nnx.merge(graph, params, traced)(x.swapaxes(0, 1), carries)
    log_probabilities = jax.nn.log_softmax(scores).swapaxes(0, 1)
    surprise = -jnp.take_along_axis(log_probabilities, y[..., None].astype(jnp.int32), axis=-1)[..., 0]
    active = [[_nonzero_blocks(h, block) for block in ACTIVITY_BLOCKS] for h in states]
    best = log_probabilities.argmax(-1).astype(jnp.int32)
    return Prediction(best, surprise, log_probabilities if keep_scores else None, active, carries)


def _nonzero_blocks(h: jax.Array, block: int) -> jax.Array:
    """(batch, time) blocks of a state (time, batch, hidden) that are not zero throughout."""
    short = -h.shape[-1] % block
    blocks = jnp.pad(h != 0, [(0, 0), (0, 0), (0, short)]).reshape(*h.shape[:2], -1, block)
    return blocks.any(-1).sum(-1).T


def split(model: RecurrentNetwork) -> tuple[Tree, Tree, Tree]:
    """Static graph, trained parameters, traced data."""
    graph, *states = nnx.split(model, nnx.Param, Traced)
    params, traced = states
    return graph, params, traced
