"""LSTM and GRU cells with batch normalisation inside, as pure functions of one time step.

LSTM (Ardakani et al., "Learning Recurrent Binary/Ternary Weights", ICLR 2019):

    [i f g o] = [s s tanh s](BN(Wx x; gx) + BN(Wh h; gh) + b)
    c = f*c + i*g;   h = o*tanh(BN(c; gc) + bc)

GRU, reset after the product as in `cells`:

    r, z = s(BN(Wx x) + BN(Wh h) + b);   n = tanh(BN(Wxn x) + bn + r*(BN(Whn h) + bhn))

BN(a; g) = g * (a - mean) / sqrt(variance + EPSILON). In training mean and variance are those of the
batch, step by step, real steps only. Afterwards they are constants, of each of the first steps
("per_step") or of all steps together ("frozen"): then BN is one scale for each product of a gate
output and one shift (`Folded`), into which the constant of binary and ternary words folds too.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from codesign.design import Frozen, PerStep
from codesign.models.cells import Carry, StepWeights, sparsify
from codesign.numerics.activations import Functions
from codesign.numerics.fixed_point import quantize_unit

EPSILON = 1e-5
FIRST_GAIN = 0.1  # of every scale (the released code)
SMALLEST_SCALE = 2.0**-40  # in place of zero, beside which no mean could stand for a shift


class Moments(NamedTuple):
    """Mean and variance of every unit of a product or a state."""

    mean: jax.Array
    variance: jax.Array


class StepMoments(NamedTuple):
    """Moments of one step, or with a leading axis of several: of Wx x, of Wh h and of the LSTM's c."""

    x: Moments
    h: Moments
    c: Moments


class Gains(NamedTuple):
    """Trained scales of the three normalisations, and the shift of c."""

    x: jax.Array
    h: jax.Array
    c: jax.Array
    c_shift: jax.Array


class Folded(NamedTuple):
    """Normalisation by constants as hardware does it; rows are the first steps of a sequence, or one for all.

    With s and t for scale and shift:

        LSTM    z = s_x (Wx x) + s_h (Wh h) + t;   h = o*tanh(s_c c + t_c)
        GRU     r, z alike;   n = tanh(s_xn (Wxn x) + t_n + r*(s_hn (Whn h) + t_hn))

    Attributes:
        scale_x, scale_h: (rows, gates * hidden) of Wx x and of Wh h.
        shift: (rows, 4 * hidden), what the means leave of the bias, in its order: the GRU's last quarter is t_hn.
        scale_c, shift_c: (rows, hidden) of the LSTM's c; None in a GRU.
    """

    scale_x: jax.Array
    scale_h: jax.Array
    shift: jax.Array
    scale_c: jax.Array | None = None
    shift_c: jax.Array | None = None


class StepInput(NamedTuple):
    """What a step is given.

    Attributes:
        x: (batch, gates * hidden), the input's product.
        real: (batch,) 1 where the step is no padding.
        moments: constants to normalise by; None in training.
    """

    x: jax.Array
    real: jax.Array
    moments: StepMoments | None


class StepOutput(NamedTuple):
    """The state, and the moments it was normalised by."""

    state: jax.Array
    moments: StepMoments


def batch_moments(a: jax.Array, real: jax.Array) -> Moments:
    """Of a (batch, n) over the real rows, of which `real` (batch,) tells."""
    n_real = jnp.maximum(real.sum(), 1.0)
    mean = (a * real[:, None]).sum(0) / n_real
    return Moments(mean, (jnp.square(a - mean) * real[:, None]).sum(0) / n_real)


def normalised(a: jax.Array, gain: jax.Array, moments: Moments) -> jax.Array:
    """g * (a - mean) / sqrt(variance + EPSILON)."""
    return gain * (a - moments.mean) * jax.lax.rsqrt(moments.variance + EPSILON)


def lstm_step(
    weights: StepWeights, gains: Gains, functions: Functions, carry: Carry, given: StepInput
) -> tuple[Carry, StepOutput]:
    """One step of the LSTM."""
    sigmoid, tanh = functions
    c, h = carry
    product = sparsify(h, weights.threshold) @ weights.recurrent_kernel
    of_x, of_h = _of_products(given, product)
    z = normalised(given.x, gains.x, of_x) + normalised(product, gains.h, of_h) + weights.bias
    zi, zf, zg, zo = jnp.split(z, 4, axis=-1)
    i, f, o = (quantize_unit(sigmoid(gate), weights.bits) for gate in (zi, zf, zo))
    c = f * c + i * quantize_unit(tanh(zg), weights.bits)
    of_c = batch_moments(c, given.real) if given.moments is None else given.moments.c
    seen = normalised(c, gains.c, of_c) + gains.c_shift
    h = quantize_unit(o * quantize_unit(tanh(seen), weights.bits), weights.bits)
    return (c, h), StepOutput(h, StepMoments(of_x, of_h, of_c))


def gru_step(
    weights: StepWeights, gains: Gains, functions: Functions, carry: Carry, given: StepInput
) -> tuple[Carry, StepOutput]:
    """One step of the GRU, which has no c."""
    sigmoid, tanh = functions
    (h,) = carry
    bias, bias_hn = jnp.split(weights.bias, [3 * h.shape[-1]])
    product = sparsify(h, weights.threshold) @ weights.recurrent_kernel
    of_x, of_h = _of_products(given, product)
    xr, xz, xn = jnp.split(normalised(given.x, gains.x, of_x) + bias, 3, axis=-1)
    hr, hz, hn = jnp.split(normalised(product, gains.h, of_h), 3, axis=-1)
    r = quantize_unit(sigmoid(xr + hr), weights.bits)
    z = quantize_unit(sigmoid(xz + hz), weights.bits)
    n = quantize_unit(tanh(xn + r * (hn + bias_hn)), weights.bits)
    h = quantize_unit((1.0 - z) * n + z * h, weights.bits)
    none = jnp.zeros_like(gains.c)
    return (h,), StepOutput(h, StepMoments(of_x, of_h, Moments(none, none)))


def _of_products(given: StepInput, product: jax.Array) -> tuple[Moments, Moments]:
    if given.moments is not None:
        return given.moments.x, given.moments.h
    return batch_moments(given.x, given.real), batch_moments(product, given.real)


STEPS = {"lstm": lstm_step, "gru": gru_step}


class CellBatchNorm(nnx.Module):
    """Gains of one layer, and the constants its cells normalise by after training.

    The constants are parameters without a gradient: training normalises by the batch, `set_moments`
    puts them in afterwards, and they are saved and restored with the weights.
    """

    def __init__(self, kind: PerStep | Frozen, gates: int, hidden: int) -> None:
        n_steps = kind.steps if isinstance(kind, PerStep) else 1
        self.x = nnx.Param(jnp.full((gates * hidden,), FIRST_GAIN))
        self.h = nnx.Param(jnp.full((gates * hidden,), FIRST_GAIN))
        self.c = nnx.Param(jnp.full((hidden,), FIRST_GAIN))
        self.c_shift = nnx.Param(jnp.zeros((hidden,)))
        sizes = {"x": gates * hidden, "h": gates * hidden, "c": hidden}
        self.means = nnx.data({name: nnx.Param(jnp.zeros((n_steps, n))) for name, n in sizes.items()})
        self.variances = nnx.data({name: nnx.Param(jnp.ones((n_steps, n))) for name, n in sizes.items()})

    def __call__(
        self,
        cell: str,
        weights: StepWeights,
        functions: Functions,
        start: Carry,
        x: jax.Array,
        real: jax.Array | None,
        first: jax.Array | int = 0,
    ) -> tuple[jax.Array, Carry, StepMoments]:
        """States (time, batch, hidden), the carry after the last step, and the moments of every step.

        Args:
            x: (time, batch, gates * hidden), the input's product.
            real: (time, batch) 1 where a step is no padding: normalise by the batch; None: by the constants.
            first: the first step's number in its sequence; constants need it.
        """
        gains = Gains(self.x[...], self.h[...], self.c[...], self.c_shift[...])
        time, batch, _ = x.shape
        if real is None:
            given = StepInput(x, jnp.ones((time, batch)), self.constants(time, first))
        else:
            given = StepInput(x, real, None)
        step = partial(STEPS[cell], weights, gains, functions)
        after, out = jax.lax.scan(step, start, given)
        return out.state, after, out.moments

    def constants(self, time: int, first: jax.Array | int = 0) -> StepMoments:
        """Of each of so many steps, from step `first` of a sequence on."""
        names = ("x", "h", "c")
        rows = jnp.minimum(first + jnp.arange(time), self.means["x"].shape[0] - 1)
        return StepMoments(*(Moments(self.means[name][...][rows], self.variances[name][...][rows]) for name in names))

    def set_moments(self, seen: StepMoments, n_real: jax.Array) -> None:
        """Take the moments of all rows seen as constants.

        Args:
            seen: moments by batch and step, (n_batches, time, n) each.
            n_real: (n_batches, time) rows behind each.
        """
        n_steps = self.means["x"].shape[0]
        rows = jnp.minimum(jnp.arange(n_real.shape[1]), n_steps - 1)

        def pooled(a: jax.Array) -> jax.Array:
            """Sum over batches, and over the steps that share a row."""
            return jax.ops.segment_sum(a.sum(0), rows, n_steps)

        seen_rows = pooled(n_real)
        count = jnp.maximum(seen_rows, 1.0)[:, None]
        # steps that no sequence reached share the constants of the last that one did
        last = jnp.max(jnp.where(seen_rows > 0, jnp.arange(n_steps), 0))
        source = jnp.minimum(jnp.arange(n_steps), last)
        for name, moments in zip(("x", "h", "c"), seen, strict=True):
            weight = n_real[..., None]
            mean = pooled(moments.mean * weight) / count
            square = pooled((moments.variance + jnp.square(moments.mean)) * weight) / count
            self.means[name][...] = mean[source]
            self.variances[name][...] = jnp.maximum(square - jnp.square(mean), 0.0)[source]

    def folded(self, cell: str, bias: jax.Array) -> Folded:
        """One scale for each product and one shift, from the constants.

        Args:
            cell: "lstm" or "gru".
            bias: (4 * hidden,) as memory holds it.
        """
        (scale_x, of_x), (scale_h, of_h), (scale_c, of_c) = (self._affine(name) for name in ("x", "h", "c"))
        if cell == "lstm":
            return Folded(scale_x, scale_h, bias + of_x + of_h, scale_c, self.c_shift[...] + of_c)
        (gates_x, n_x), (gates_h, n_h) = (jnp.split(of, [2 * self.c.shape[0]], axis=1) for of in (of_x, of_h))
        return Folded(scale_x, scale_h, bias + jnp.concatenate([gates_x + gates_h, n_x, n_h], axis=1))

    def set_folded(self, folded: Folded) -> None:
        """Normalise as `folded` says, beside a bias of zero.

        Shifts go into the means, because those are of each step and no 16-bit words, as a bias may be. The
        scales of a unit must have one sign in all rows, that of its gain.
        """
        n_gates = self.x.shape[0]
        shift_x, shift_hn = jnp.split(folded.shift, [n_gates], axis=1)
        shift_h = jnp.pad(shift_hn, [(0, 0), (n_gates - shift_hn.shape[1], 0)])
        self._set_affine("x", folded.scale_x, shift_x)
        self._set_affine("h", folded.scale_h, shift_h)
        if folded.scale_c is not None and folded.shift_c is not None:
            self._set_affine("c", folded.scale_c, folded.shift_c)
            self.c_shift[...] = jnp.zeros_like(self.c_shift[...])

    def _affine(self, name: str) -> tuple[jax.Array, jax.Array]:
        """Scale and shift, (rows, n) each: BN(a) = scale * a + shift."""
        scale = getattr(self, name)[...] * jax.lax.rsqrt(self.variances[name][...] + EPSILON)
        return scale, -scale * self.means[name][...]

    def _set_affine(self, name: str, scale: jax.Array, shift: jax.Array) -> None:
        """The inverse of `_affine`; a gain is the unit's largest scale, so that no variance is below 1 - EPSILON."""
        scale = jnp.where(jnp.abs(scale) < SMALLEST_SCALE, SMALLEST_SCALE, scale)
        largest = jnp.take_along_axis(scale, jnp.abs(scale).argmax(0)[None], axis=0)
        getattr(self, name)[...] = largest[0]
        self.means[name][...] = -shift / scale
        self.variances[name][...] = jnp.square(largest / scale) - EPSILON
