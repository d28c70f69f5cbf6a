"""The trained network: recurrent layers and a dense head, as Flax modules."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from codesign.compression import Dense
from codesign.design import GATES, Network, PiecewiseLinear, TaskShape
from codesign.errors import InputError
from codesign.models.cells import N_CARRY, STEPS, Carry, StepWeights
from codesign.models.kernel import CompressedKernel, Traced, bits_of, written_bias
from codesign.numerics.fixed_point import quantize_unit

INPUT_MEAN_SQUARE = 1.0 / 16.0  # tasks scale features so that four standard deviations fill [-1, 1)
INT8_UNIT = 1.0 / 128.0  # of features that a task holds as int8


class Pass(NamedTuple):
    """What a network makes of a piece of its sequences.

    Attributes:
        scores: (time, batch, outputs) of the classes.
        states: every layer's states as products see them, (time, batch, hidden).
        carries: every layer's carry after the last step.
    """

    scores: jax.Array
    states: list[jax.Array]
    carries: list[Carry]


class RecurrentLayer(nnx.Module):
    """One LSTM or GRU layer over a whole sequence."""

    def __init__(self, network: Network, n_inputs: int, gain: float, key: jax.Array, seed: int) -> None:
        gates, hidden = GATES[network.cell], network.hidden
        key_input, key_recurrent = jax.random.split(key)
        self.cell: str = network.cell
        self.hidden: int = hidden
        function = network.activation_function
        self.segments: int = function.segments if isinstance(function, PiecewiseLinear) else 0
        self.input_kernel = CompressedKernel(
            network.input_kernel.structure,
            network.input_kernel.weights,
            gates=gates,
            rows=hidden,
            cols=n_inputs,
            key=key_input,
            seed=2 * seed,
            gain=gain,
        )
        self.recurrent_kernel = CompressedKernel(
            network.recurrent_kernel.structure,
            network.recurrent_kernel.weights,
            gates=gates,
            rows=hidden,
            cols=hidden,
            key=key_recurrent,
            seed=2 * seed + 1,
        )
        bias = jnp.zeros((4 * hidden,))
        if network.cell == "lstm":  # an open forget gate at the start (Jozefowicz et al., ICML 2015)
            bias = bias.at[hidden : 2 * hidden].set(1.0)
        self.bias = nnx.Param(bias)
        self.threshold = Traced(jnp.asarray(network.state_threshold, jnp.float32))
        self.bits = Traced(jnp.asarray(bits_of(network.activations), jnp.int32))

    def __call__(self, x: jax.Array, carry: Carry | None) -> tuple[jax.Array, Carry]:
        """States as products see them, (time, batch, hidden), and the carry after the last step.

        Args:
            x: (time, batch, inputs), or tokens (time, batch), which enter one-hot.
            carry: before the first step; zeros if None.
        """
        input_kernel = self.input_kernel.matrix()
        one_hot = x.ndim == 2  # the product is a row of the kernel, for all steps at once
        weights = StepWeights(
            input_kernel=None if one_hot else input_kernel,
            recurrent_kernel=self.recurrent_kernel.matrix(),
            bias=written_bias(self.bias[...], self.input_kernel.bits[...]),
            bits=self.bits[...],
            threshold=self.threshold[...],
        )
        start = carry if carry is not None else self.zero_carry(x.shape[1])
        step = partial(STEPS[self.cell], weights, self.segments)
        after, states = jax.lax.scan(step, start, input_kernel[x] if one_hot else x)
        return states, after

    def zero_carry(self, batch: int) -> Carry:
        """The carry before a sequence begins."""
        return (jnp.zeros((batch, self.hidden)),) * N_CARRY[self.cell]


class RecurrentNetwork(nnx.Module):
    """Embedding, layers and head of a Network for a task of the given shape.

    Raises:
        InputError: if the network embeds tokens and the task has none.
    """

    def __init__(self, network: Network, shape: TaskShape, seed: int) -> None:
        if network.embedding and not shape.tokens:
            raise InputError("network.embedding must be 0 for a task whose inputs are no tokens")
        keys = jax.random.split(jax.random.key(seed), network.layers + 1)
        width, gain = shape.n_inputs, 1.0 / INPUT_MEAN_SQUARE
        embedding = None
        if network.embedding:
            width = network.embedding
            embedding = CompressedKernel(
                Dense(),
                network.embedding_weights,
                gates=1,
                rows=width,
                cols=shape.n_inputs,
                key=jax.random.fold_in(keys[-1], 1),
                seed=0,
                gain=INPUT_MEAN_SQUARE * shape.n_inputs,
                always_dense=True,
            )
        elif shape.tokens:
            gain = float(shape.n_inputs)  # one of so many inputs is 1
        self.embedding: CompressedKernel | None = nnx.data(embedding)
        self.layers = nnx.List(
            RecurrentLayer(
                network,
                network.hidden if index else width,
                gain=1.0 if index else gain,
                key=keys[index],
                seed=seed * network.layers + index,
            )
            for index in range(network.layers)
        )
        self.head = CompressedKernel(
            Dense(),
            network.head_weights,
            gates=1,
            rows=shape.n_outputs,
            cols=network.hidden,
            key=keys[-1],
            seed=0,
            always_dense=shape.tokens,  # a vocabulary is large enough to be worth it
        )
        self.bias = nnx.Param(jnp.zeros((shape.n_outputs,)))

    def zero_carries(self, batch: int) -> list[Carry]:
        """Every layer's carry before a sequence begins."""
        return [layer.zero_carry(batch) for layer in self.layers]

    def __call__(self, x: jax.Array, carries: list[Carry] | None = None) -> Pass:
        """One pass over features (time, batch, inputs), float or int8 in units of 1/128, or tokens (time, batch).

        Args:
            carries: every layer's, from the piece before; zeros if None.
        """
        if self.embedding is not None:
            x = self.embedding.matrix()[x]
        elif x.dtype == jnp.int8:
            x = x * jnp.float32(INT8_UNIT)
        if x.ndim == 3:
            x = quantize_unit(x, self.layers[0].bits[...])
        states, after = [], []
        for index, layer in enumerate(self.layers):
            x, carry = layer(x, carries[index] if carries else None)
            states.append(x)
            after.append(carry)
        scores = x @ self.head.matrix() + written_bias(self.bias[...], self.head.bits[...])
        return Pass(scores, states, after)
