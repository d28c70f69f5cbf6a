"""LSTM and GRU cells with compressed kernels, as pure functions of one time step.

LSTM, gates in the order i, f, g, o and carry (c, h):

    [i f g o] = [s s tanh s](Wx x + Wh h + b);   c = f*c + i*g;   h = o*tanh(c)

with peepholes i and f also see pi*c, pf*c of the step before and o sees po*c of this one; with a
projection the state is h = Wp (o*tanh(c)), shorter than c (Sak et al., Interspeech 2014; the LSTM of
E-RNN, HPCA 2019).

GRU, gates in the order r, z, n and carry h (the reset gate acts after the product):

    r, z = s(Wx x + Wh h + b);   n = tanh(Wxn x + bn + r*(Whn h + bhn));   h = (1-z)*n + z*h

What memory holds (x, h) and what the gates put out are words of `bits` bits in [-1, 1); the LSTM's c
is kept wide (hardware holds it in 16 bits, finer than any gate). In products h appears sparsified:
entries with |h| < threshold are zero there, and their gradient passes (Ardakani et al., DATE 2019).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from codesign.numerics.activations import Functions
from codesign.numerics.fixed_point import quantize_unit, straight_through

Carry = tuple[jax.Array, ...]


@dataclass(frozen=True)
class StepWeights:
    """What a step needs, built once per pass.

    Attributes:
        input_kernel: (inputs, gates * hidden); None where x is the input's product already.
        recurrent_kernel: (state, gates * hidden).
        bias: (4 * hidden,); the GRU's last quarter is bhn.
        bits: word length of activations, 0 for float.
        threshold: of the recurrent state.
        peepholes: (3 * hidden,) of i, f and o; None without.
        projection: (hidden, state); None where the state is o*tanh(c) itself.
    """

    input_kernel: jax.Array | None
    recurrent_kernel: jax.Array
    bias: jax.Array
    bits: jax.Array
    threshold: jax.Array
    peepholes: jax.Array | None = None
    projection: jax.Array | None = None


def sparsify(h: jax.Array, threshold: jax.Array) -> jax.Array:
    """h with its small entries set to zero; straight-through gradient."""
    return straight_through(h, jnp.where(jnp.abs(h) >= threshold, h, 0.0))


def lstm_step(weights: StepWeights, functions: Functions, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
    """One step; the output is the state."""
    sigmoid, tanh = functions
    c, h = carry
    h = sparsify(h, weights.threshold)
    if weights.input_kernel is None:
        z = x + h @ weights.recurrent_kernel + weights.bias
    else:
        both = jnp.concatenate([weights.input_kernel, weights.recurrent_kernel])
        z = jnp.concatenate([x, h], axis=-1) @ both + weights.bias
    zi, zf, zg, zo = jnp.split(z, 4, axis=-1)
    if weights.peepholes is not None:
        pi, pf, po = jnp.split(weights.peepholes, 3)
        zi, zf = zi + pi * c, zf + pf * c
    i, f = (quantize_unit(sigmoid(gate), weights.bits) for gate in (zi, zf))
    c = f * c + i * quantize_unit(tanh(zg), weights.bits)
    if weights.peepholes is not None:
        zo = zo + po * c
    o = quantize_unit(sigmoid(zo), weights.bits)
    h = quantize_unit(o * quantize_unit(tanh(c), weights.bits), weights.bits)
    if weights.projection is not None:
        h = quantize_unit(h @ weights.projection, weights.bits)
    return (c, h), h


def gru_step(weights: StepWeights, functions: Functions, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
    """One step; the output is the state."""
    sigmoid, tanh = functions
    (h,) = carry
    bias, bias_hn = jnp.split(weights.bias, [3 * h.shape[-1]])
    product = x if weights.input_kernel is None else x @ weights.input_kernel
    xr, xz, xn = jnp.split(product + bias, 3, axis=-1)
    hr, hz, hn = jnp.split(sparsify(h, weights.threshold) @ weights.recurrent_kernel, 3, axis=-1)
    r = quantize_unit(sigmoid(xr + hr), weights.bits)
    z = quantize_unit(sigmoid(xz + hz), weights.bits)
    n = quantize_unit(tanh(xn + r * (hn + bias_hn)), weights.bits)
    h = quantize_unit((1.0 - z) * n + z * h, weights.bits)
    return (h,), h


STEPS = {"lstm": lstm_step, "gru": gru_step}
N_CARRY = {"lstm": 2, "gru": 1}
