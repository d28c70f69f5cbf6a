"""The trained network: recurrent layers and a dense head, as Flax modules."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from codesign.compression import Dense
from codesign.design import GATES, Network, PiecewiseLinear
from codesign.models.cells import N_CARRY, STEPS, StepWeights
from codesign.models.kernel import CompressedKernel, Traced, bits_of, written_bias
from codesign.numerics.fixed_point import quantize_unit

INPUT_MEAN_SQUARE = 1.0 / 16.0  # tasks scale features so that four standard deviations fill [-1, 1)


class RecurrentLayer(nnx.Module):
    """One LSTM or GRU layer over a whole sequence."""

    def __init__(self, network: Network, n_inputs: int, first: bool, key: jax.Array, seed: int) -> None:
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
            gain=1.0 / INPUT_MEAN_SQUARE if first else 1.0,
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

    def __call__(self, x: jax.Array) -> jax.Array:
        """States as products see them: (time, batch, inputs) -> (time, batch, hidden)."""
        weights = StepWeights(
            input_kernel=self.input_kernel.matrix(),
            recurrent_kernel=self.recurrent_kernel.matrix(),
            bias=written_bias(self.bias[...], self.input_kernel.bits[...]),
            bits=self.bits[...],
            threshold=self.threshold[...],
        )
        zero = jnp.zeros((x.shape[1], self.hidden))
        step = partial(STEPS[self.cell], weights, self.segments)
        return jax.lax.scan(step, (zero,) * N_CARRY[self.cell], x)[1]


class RecurrentNetwork(nnx.Module):
    """Layers and head of a Network for a task of `n_inputs` features and `n_outputs` classes."""

    def __init__(self, network: Network, n_inputs: int, n_outputs: int, seed: int) -> None:
        keys = jax.random.split(jax.random.key(seed), network.layers + 1)
        self.layers = nnx.List(
            RecurrentLayer(
                network,
                network.hidden if index else n_inputs,
                first=index == 0,
                key=keys[index],
                seed=seed * network.layers + index,
            )
            for index in range(network.layers)
        )
        self.head = CompressedKernel(
            Dense(),
            network.head_weights,
            gates=1,
            rows=n_outputs,
            cols=network.hidden,
            key=keys[-1],
            seed=0,
        )
        self.bias = nnx.Param(jnp.zeros((n_outputs,)))

    def __call__(self, x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        """Class scores (time, batch, outputs) and every layer's states (time, batch, hidden)."""
        x = quantize_unit(x, self.layers[0].bits[...])
        states = []
        for layer in self.layers:
            x = layer(x)
            states.append(x)
        return x @ self.head.matrix() + written_bias(self.bias[...], self.head.bits[...]), states
