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
from codesign.models import RecurrentNetwork, Traced

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
    """Training pieces on the device: x (n, time, inputs), y and mask (n, time)."""

    x: jax.Array
    y: jax.Array
    mask: jax.Array


class Prediction(NamedTuple):
    """What a pass over whole sequences gives, time-major.

    Attributes:
        log_probabilities: (time, batch, outputs).
        nonzero_blocks: for each layer and each block size of `ACTIVITY_BLOCKS`: (time, batch) state
            blocks with a non-zero entry.
    """

    log_probabilities: jax.Array
    nonzero_blocks: list[list[jax.Array]]


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


def loss(graph: Tree, params: Tree, traced: Tree, batch: Chunks) -> jax.Array:
    """Mean cross-entropy of the counted steps, in nats."""
    scores, _ = nnx.merge(graph, params, traced)(batch.x.swapaxes(0, 1))
    losses = optax.softmax_cross_entropy_with_integer_labels(scores, batch.y.T)
    weights = batch.mask.T
    return jnp.sum(losses * weights) / jnp.maximum(1.0, jnp.sum(weights))


def _epoch(graph: Tree, batch_size: int, member: Member, data: Chunks) -> tuple[Member, jax.Array]:
    key, order_key = jax.random.split(member.key)
    n_batches = max(1, len(data.mask) // batch_size)
    order = jax.random.permutation(order_key, len(data.mask))[: n_batches * batch_size]

    def step(state: tuple[Tree, Tree, jax.Array], rows: jax.Array) -> tuple[Any, jax.Array]:
        params, optimizer, count = state
        batch = Chunks(*(array[rows] for array in data))
        value, gradient = jax.value_and_grad(partial(loss, graph))(params, member.traced, batch)
        norm = optax.tree.norm(gradient)
        shrink = jnp.minimum(1.0, member.settings.max_gradient_norm / jnp.maximum(norm, 1e-12))
        gradient = jax.tree.map(lambda g: g * shrink, gradient)
        updates, optimizer = ADAM.update(gradient, optimizer)
        rate = learning_rate(member.settings, count)
        params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
        return (params, optimizer, count + 1), value

    start = (member.params, member.optimizer, member.step)
    (params, optimizer, count), losses = jax.lax.scan(step, start, order.reshape(n_batches, -1))
    return member._replace(params=params, optimizer=optimizer, key=key, step=count), losses.mean()


@partial(jax.jit, static_argnames=("graph", "batch_size"), donate_argnames=("member",))
def train_epoch(graph: Tree, batch_size: int, member: Member, data: Chunks) -> tuple[Member, jax.Array]:
    """One pass over the shuffled chunks for a population: (new members, mean loss of each)."""
    run = partial(_epoch, graph, batch_size)
    if len(member.step) > 1:
        return jax.vmap(run, in_axes=(0, None))(member, data)
    alone, value = run(jax.tree.map(lambda a: a[0], member), data)
    return jax.tree.map(lambda a: a[None], alone), value[None]


@partial(jax.jit, static_argnames=("graph",))
def predict(graph: Tree, params: Tree, traced: Tree, x: jax.Array) -> Prediction:
    """Class scores and state activity of one network over (batch, time, inputs)."""
    scores, states = nnx.merge(graph, params, traced)(x.swapaxes(0, 1))
    active = [[_nonzero_blocks(h, block) for block in ACTIVITY_BLOCKS] for h in states]
    return Prediction(jax.nn.log_softmax(scores), active)


def _nonzero_blocks(h: jax.Array, block: int) -> jax.Array:
    short = -h.shape[-1] % block
    blocks = jnp.pad(h != 0, [(0, 0), (0, 0), (0, short)]).reshape(*h.shape[:2], -1, block)
    return blocks.any(-1).sum(-1)


def split(model: RecurrentNetwork) -> tuple[Tree, Tree, Tree]:
    """Static graph, trained parameters, traced data."""
    graph, *states = nnx.split(model, nnx.Param, Traced)
    params, traced = states
    return graph, params, traced
