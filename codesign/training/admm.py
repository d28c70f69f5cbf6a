"""ADMM: a dense network is drawn to a structure before it is projected onto it.

    minimise L(W) subject to W in S, the set of kernels of a structure:

    W-step   Adam on L(W) + rho/2 ||W - Z + U||^2, for an epoch
    Z-step   Z = Proj_S(W + U): the mean over all places of each stored word
    U-step   U <- U + W - Z

For circulant blocks the projection is the mean along every cyclic diagonal; where a structure keeps no
word, zero.

References:
    Li et al., "E-RNN", HPCA 2019 (ADMM for block-circulant kernels). The paper's schedule of rho is not public.
    Boyd et al., "Distributed Optimization and Statistical Learning via the Alternating Direction Method of
        Multipliers", 2011 (scaled form).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from codesign.models import CompressedKernel, RecurrentNetwork

Words = dict[str, jax.Array]
"""Arrays (gates * rows * cols,) by the dotted name of a kernel, row by row of the dense matrix."""


class Target(NamedTuple):
    """Where the dense words of a kernel go in its structure.

    Attributes:
        ids: (n,) stored word of every place.
        mask: (n,) 1 where the structure keeps a word.
    """

    ids: jax.Array
    mask: jax.Array


class Admm(NamedTuple):
    """State of the method.

    Attributes:
        targets: by kernel.
        z: the nearest kernels of the structure.
        u: scaled dual variables.
        rho: of the penalty.
    """

    targets: dict[str, Target]
    z: Words
    u: Words
    rho: jax.Array


def targets_of(model: RecurrentNetwork) -> dict[str, Target]:
    """The structure of every kernel of a network that is to be drawn to it."""
    return {
        name: Target(kernel.ids[...].T.reshape(-1), kernel.mask[...].T.reshape(-1))
        for name, kernel in model.kernels().items()
        if isinstance(kernel, CompressedKernel)
    }


def project(target: Target, dense: jax.Array) -> jax.Array:
    """The nearest kernel of the structure in the Frobenius norm, as dense words."""
    n = len(dense)
    total = jax.ops.segment_sum(dense * target.mask, target.ids, n)
    places = jax.ops.segment_sum(target.mask, target.ids, n)
    return target.mask * (total / jnp.maximum(places, 1.0))[target.ids]


def compact(target: Target, dense: jax.Array) -> jax.Array:
    """The stored words of the nearest kernel, padded with zeros to the dense number."""
    n = len(dense)
    total = jax.ops.segment_sum(dense * target.mask, target.ids, n)
    return total / jnp.maximum(jax.ops.segment_sum(target.mask, target.ids, n), 1.0)


def begin(targets: dict[str, Target], words: Words, rho: float) -> Admm:
    """Z the projection of the words, U zero."""
    z = {name: project(target, words[name]) for name, target in targets.items()}
    return Admm(targets, z, jax.tree.map(jnp.zeros_like, z), jnp.float32(rho))


def update(state: Admm, words: Words, growth: float) -> Admm:
    """Z-step, U-step, and a larger rho; U is scaled by rho, so it shrinks as rho grows."""
    z = {name: project(target, words[name] + state.u[name]) for name, target in state.targets.items()}
    u = {name: (state.u[name] + words[name] - z[name]) / growth for name in z}
    return state._replace(z=z, u=u, rho=state.rho * growth)


def penalty(state: Admm, params: Any) -> jax.Array:
    """rho/2 ||W - Z + U||^2 over all kernels."""
    words = words_of(params, state.targets)
    return 0.5 * state.rho * sum(jnp.sum(jnp.square(words[name] - state.z[name] + state.u[name])) for name in words)


def words_of(params: Any, names: Any) -> Words:
    """The masters of kernels, by name, out of a network's parameters."""
    leaves = {dotted(path): leaf for path, leaf in jax.tree.leaves_with_path(params)}
    return {name: leaves[f"{name}.words"] for name in names}


def dotted(path: Any) -> str:
    """The name of a parameter, for instance layers.0.recurrent_kernel.words."""
    keys = (str(getattr(part, "key", getattr(part, "name", part))) for part in path)
    return ".".join(key for key in keys if key not in ("value", "raw_value"))
