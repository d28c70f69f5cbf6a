"""A search the plain way in Flax, for `benchmarks.training_speed`: each trial compiles a model of its own."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks.speed_trial import CLASSES, Steps, Trial
from codesign import training

SCALES = 3  # powers of two tried for a kernel, as codesign does


def fake_quantized(x: jax.Array, bits: int, unit: jax.Array | float) -> jax.Array:
    """Rounded forward, straight through backward."""
    half = 2.0 ** (bits - 1)
    rounded = jnp.clip(jnp.floor(x / unit + 0.5), -half, half - 1.0) * unit
    return x + jax.lax.stop_gradient(rounded - x)


def fake_quantized_kernel(kernel: jax.Array, bits: int) -> jax.Array:
    """With the power-of-two unit, out of three, that leaves the least squared error."""
    words = jax.lax.stop_gradient(kernel)
    top = jnp.ceil(jnp.log2(jnp.maximum(jnp.max(jnp.abs(words)), 2.0**-90)))  # a bias begins as zero
    units = jnp.exp2(top - (bits - 1) - jnp.arange(SCALES))
    errors = jnp.stack([jnp.sum((words - fake_quantized(words, bits, unit)) ** 2) for unit in units])
    return fake_quantized(kernel, bits, units[jnp.argmin(errors)])


class FlaxLSTM(nnx.Module):
    """A quantized LSTM and its head in plain Flax."""

    def __init__(self, trial: Trial, rngs: nnx.Rngs) -> None:
        shape, draw = trial.shape, nnx.initializers.glorot_uniform()
        self.bits: int = trial.bits
        self.input_kernel = nnx.Param(draw(rngs.params(), (shape.inputs, 4 * shape.hidden)))
        self.recurrent_kernel = nnx.Param(draw(rngs.params(), (shape.hidden, 4 * shape.hidden)))
        self.bias = nnx.Param(jnp.zeros((4 * shape.hidden,)))
        self.head = nnx.Param(draw(rngs.params(), (shape.hidden, CLASSES)))
        self.head_bias = nnx.Param(jnp.zeros((CLASSES,)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Scores (time, batch, classes)."""
        input_kernel = fake_quantized_kernel(self.input_kernel[...], self.bits)
        recurrent_kernel = fake_quantized_kernel(self.recurrent_kernel[...], self.bits)
        bias = fake_quantized_kernel(self.bias[...], 16)
        word = partial(fake_quantized, bits=8, unit=2.0**-7)

        def step(carry: tuple[jax.Array, jax.Array], x: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            c, h = carry
            z = x @ input_kernel + h @ recurrent_kernel + bias
            i, f, g, o = jnp.split(z, 4, axis=-1)
            c = word(nnx.sigmoid(f)) * c + word(nnx.sigmoid(i)) * word(jnp.tanh(g))
            h = word(word(nnx.sigmoid(o)) * word(jnp.tanh(c)))
            return (c, h), h

        start = jnp.zeros((x.shape[1], recurrent_kernel.shape[0]))
        _, states = jax.lax.scan(step, (start, start), word(x))
        return states @ fake_quantized_kernel(self.head[...], 8) + fake_quantized_kernel(self.head_bias[...], 16)


def flax_closure(trial: Trial) -> Steps:
    """A model, an optimizer and a compiled step for this trial alone."""
    recipe = trial.recipe
    model = FlaxLSTM(trial, nnx.Rngs(trial.seed))
    rate = recipe.peak_learning_rate(trial.shape.hidden)
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, int(recipe.warmup * trial.n_steps), trial.n_steps)
    adam = optax.chain(optax.clip_by_global_norm(recipe.max_gradient_norm), optax.adam(schedule))
    optimizer = nnx.Optimizer(model, adam, wrt=nnx.Param)
    data = training.training_chunks(trial.task, recipe.sequence_length, recipe.batch_size)
    rng = np.random.default_rng(trial.seed)

    @nnx.jit
    def update(model: FlaxLSTM, optimizer: Any, data: Any, rows: jax.Array) -> jax.Array:
        x, y, mask = data.x[rows].swapaxes(0, 1), data.y[rows].T, data.mask[rows].T

        def loss(model: FlaxLSTM) -> jax.Array:
            losses = optax.softmax_cross_entropy_with_integer_labels(model(x), y)
            return jnp.asarray((losses * mask).sum() / mask.sum())

        value, gradient = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradient)
        return jnp.asarray(value)

    def batches() -> Iterator[jax.Array]:
        while True:
            yield from jnp.asarray(rng.permutation(len(data.mask)).reshape(-1, recipe.batch_size))

    source = batches()

    def steps(n: int) -> None:
        for _ in range(n):
            value = update(model, optimizer, data, next(source))
        value.block_until_ready()

    return steps
