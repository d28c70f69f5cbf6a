"""The trained network: recurrent layers and a dense head, as Flax modules."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from codesign.compression import Dense, TensorStructure
from codesign.design import GATES, ActivationFunction, Kernel, Network, TaskShape
from codesign.errors import InputError
from codesign.models.batch_norm import CellBatchNorm, StepMoments
from codesign.models.cells import STEPS, Carry, StepWeights, sparsify
from codesign.models.kernel import CompressedKernel, Traced, bits_of, written_bias
from codesign.models.tensor_kernel import TensorKernel
from codesign.numerics import activations
from codesign.numerics.fixed_point import quantize_unit

INPUT_MEAN_SQUARE = 1.0 / 16.0  # tasks scale features so that four standard deviations fill [-1, 1)
PROJECTION_GAIN = 4.0  # o * tanh(c) is small at the start; the state should not shrink further
INT8_UNIT = 1.0 / 128.0  # of features that a task holds as int8


class Pass(NamedTuple):
    """What a network makes of a piece of its sequences.

    Attributes:
        scores: (time, batch, outputs) of the classes.
        states: every layer's states as its recurrent kernel sees them, (time, batch, state).
        dense: the same before small entries are zeroed, as the next layer or the head sees them.
        carries: every layer's carry after the last step.
        moments: every layer's, by which its steps were normalised; None without batch normalisation.
    """

    scores: jax.Array
    states: list[jax.Array]
    dense: list[jax.Array]
    carries: list[Carry]
    moments: list[StepMoments | None]


class Mode(NamedTuple):
    """How a pass is made.

    Attributes:
        key: draws stochastic words; None decides them.
        real: (time, batch) 1 where a step is no padding, in training, where cells normalise by the batch;
            None afterwards, where they normalise by constants.
        first: the first step's number in its sequence, for constants of their own for each step.
    """

    key: jax.Array | None = None
    real: jax.Array | None = None
    first: jax.Array | int = 0


EVALUATION = Mode()
"""No word is drawn, constants normalise."""


AnyKernel = CompressedKernel | TensorKernel


def _kernel(
    kernel: Kernel, gates: int, rows: int, cols: int, key: jax.Array, seed: int, gain: float = 1.0
) -> AnyKernel:
    """The trained form of a kernel; arguments as of `CompressedKernel`."""
    structure, words = kernel.structure, kernel.weights
    if isinstance(structure, TensorStructure):
        return TensorKernel(structure, words, gates=gates, rows=rows, cols=cols, key=key, gain=gain)
    return CompressedKernel(structure, words, gates=gates, rows=rows, cols=cols, key=key, seed=seed, gain=gain)


class RecurrentLayer(nnx.Module):
    """One LSTM or GRU layer over a whole sequence."""

    def __init__(self, network: Network, n_inputs: int, gain: float, key: jax.Array, seed: int) -> None:
        gates, hidden, state = GATES[network.cell], network.hidden, network.state
        key_input, key_recurrent = jax.random.split(key)
        self.cell: str = network.cell
        self.hidden: int = hidden
        self.state: int = state
        self.function: ActivationFunction = network.activation_function
        self.input_kernel = _kernel(network.input_kernel, gates, hidden, n_inputs, key_input, 2 * seed, gain)
        self.recurrent_kernel = _kernel(network.recurrent_kernel, gates, hidden, state, key_recurrent, 2 * seed + 1)
        projection = None
        if network.projection:
            key = jax.random.fold_in(key_recurrent, 1)
            projection = _kernel(network.projection_kernel, 1, state, hidden, key, seed, PROJECTION_GAIN)
        self.projection: AnyKernel | None = nnx.data(projection)
        bias = np.zeros(4 * hidden, np.float32)
        if network.cell == "lstm":  # an open forget gate at the start (Jozefowicz et al., ICML 2015)
            bias[hidden : 2 * hidden] = 1.0
        self.bias = nnx.Param(jax.device_put(bias))
        self.peepholes: nnx.Param[jax.Array] | None = nnx.data(
            nnx.Param(jax.device_put(np.zeros(3 * hidden, np.float32))) if network.peephole else None
        )
        self.batch_norm: CellBatchNorm | None = nnx.data(
            None if network.batch_norm.kind == "none" else CellBatchNorm(network.batch_norm, gates, hidden)
        )
        self.threshold = Traced(jax.device_put(np.float32(network.state_threshold)))
        self.bits = Traced(jax.device_put(np.int32(bits_of(network.activations))))

    def __call__(self, x: jax.Array, carry: Carry | None, mode: Mode) -> tuple[jax.Array, Carry, StepMoments | None]:
        """States, (time, batch, state), the carry after the last step, and moments.

        Args:
            x: (time, batch, inputs), or tokens (time, batch), which enter one-hot.
            carry: before the first step; zeros if None.
        """
        keys = (None,) * 3 if mode.key is None else jax.random.split(mode.key, 3)
        input_kernel = self.input_kernel.matrix(keys[0])
        one_hot = x.ndim == 2  # the product is a row of the kernel
        tensor = isinstance(self.input_kernel, TensorKernel) or isinstance(self.recurrent_kernel, TensorKernel)
        apart = one_hot or tensor or self.batch_norm is not None
        weights = StepWeights(
            input_kernel=None if apart else input_kernel,
            recurrent_kernel=self.recurrent_kernel.matrix(keys[1]),
            bias=written_bias(self.bias[...], self.input_kernel),
            bits=self.bits[...],
            threshold=self.threshold[...],
            peepholes=None if self.peepholes is None else written_bias(self.peepholes[...], self.input_kernel),
            projection=None if self.projection is None else self.projection.matrix(keys[2]),
        )
        start = carry if carry is not None else self.zero_carry(x.shape[1])
        given = x
        if apart:  # the input's product for all steps at once
            given = input_kernel[x] if one_hot else x @ input_kernel
        functions = self.function.kind, getattr(self.function, "segments", 0)
        if self.batch_norm is not None:
            cell = self.cell, weights, activations.functions(*functions)
            return self.batch_norm(*cell, start, given, mode.real, mode.first)
        step = partial(STEPS[self.cell], weights, activations.functions(*functions))
        after, states = jax.lax.scan(step, start, given)
        return states, after, None

    def zero_carry(self, batch: int) -> Carry:
        """The carry before a sequence begins."""
        h = jnp.zeros((batch, self.state))
        return (jnp.zeros((batch, self.hidden)), h) if self.cell == "lstm" else (h,)


class RecurrentNetwork(nnx.Module):
    """Embedding, layers and head of a Network for a task of the given shape.

    Raises:
        InputError: if the network contradicts itself, or embeds tokens and the task has none.
    """

    def __init__(self, network: Network, shape: TaskShape, seed: int) -> None:
        if network.contradiction:
            raise InputError(f"network: {network.contradiction}")
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
                network.state if index else width,
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
            cols=network.state,
            key=keys[-1],
            seed=0,
            always_dense=shape.tokens,  # a vocabulary is large enough to be worth it
        )
        self.bias = nnx.Param(jax.device_put(np.zeros(shape.n_outputs, np.float32)))

    def kernels(self) -> dict[str, AnyKernel]:
        """The recurrent layers' kernels by dotted name, input to output."""
        named: dict[str, AnyKernel] = {}
        for index, layer in enumerate(self.layers):
            named[f"layers.{index}.input_kernel"] = layer.input_kernel
            named[f"layers.{index}.recurrent_kernel"] = layer.recurrent_kernel
            if layer.projection is not None:
                named[f"layers.{index}.projection"] = layer.projection
        return named

    @property
    def stochastic(self) -> bool:
        """Whether any words are drawn in training."""
        others = [self.head] if self.embedding is None else [self.head, self.embedding]
        return any(kernel.stochastic for kernel in (*self.kernels().values(), *others))

    def zero_carries(self, batch: int) -> list[Carry]:
        """Every layer's carry before a sequence begins."""
        return [layer.zero_carry(batch) for layer in self.layers]

    def __call__(self, x: jax.Array, carries: list[Carry] | None = None, mode: Mode = EVALUATION) -> Pass:
        """One pass over features (time, batch, inputs), float or int8 in units of 1/128, or tokens (time, batch).

        Args:
            carries: every layer's, from the piece before; zeros if None.
        """
        keys = [None] * (len(self.layers) + 2)
        if mode.key is not None:
            keys = list(jax.random.split(mode.key, len(keys)))
        if self.embedding is not None:
            x = self.embedding.matrix(keys[-1])[x]
        elif x.dtype == jnp.int8:
            x = x * jnp.float32(INT8_UNIT)
        if x.ndim == 3:
            x = quantize_unit(x, self.layers[0].bits[...])
        states, dense, after, moments = [], [], [], []
        for index, layer in enumerate(self.layers):
            state, carry, seen = layer(x, carries[index] if carries else None, mode._replace(key=keys[index]))
            x = state
            states.append(sparsify(state, layer.threshold[...]))
            dense.append(state)
            after.append(carry)
            moments.append(seen)
        scores = x @ self.head.matrix(keys[-2]) + written_bias(self.bias[...], self.head)
        return Pass(scores, states, dense, after, moments)
