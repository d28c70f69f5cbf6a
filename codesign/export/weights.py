"""Weights as hardware stores them: whole numbers, and one power-of-two exponent a tensor.

A tensor's value is integer * 2^exponent. Written are the words that the structure stores, in its order
(those that only pad a block are zero), not the padding of the training form; words of 8 bits and fewer
take a byte each. Random structure comes as its mask, bits packed, so that nobody needs our random
numbers to place the words: row by row, each row's words by ascending column.
"""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from codesign.design import Network
from codesign.errors import DataError
from codesign.models import CompressedKernel, RecurrentNetwork
from codesign.numerics.fixed_point import to_integer
from codesign.numerics.weight_formats import BIAS_BITS, best_exponent
from codesign.tasks import Task
from codesign.training import Weights, build, restore

FORMAT = "codesign weights 1"


def kernels(model: RecurrentNetwork) -> dict[str, CompressedKernel]:
    """Every kernel of a network by dotted name, input to output."""
    named = {"embedding": model.embedding} if model.embedding is not None else {}
    for index, layer in enumerate(model.layers):
        named[f"layers.{index}.input_kernel"] = layer.input_kernel
        named[f"layers.{index}.recurrent_kernel"] = layer.recurrent_kernel
    return named | {"head": model.head}


def biases(model: RecurrentNetwork) -> dict[str, tuple[NDArray[np.float32], int]]:
    """Every bias by dotted name, with the word length of the kernel beside it (0 for float)."""
    named = {
        f"layers.{index}.bias": (np.asarray(layer.bias[...]), int(layer.input_kernel.bits[...]))
        for index, layer in enumerate(model.layers)
    }
    return named | {"bias": (np.asarray(model.bias[...]), int(model.head.bits[...]))}


def save_weights(model: RecurrentNetwork, path: Path) -> None:
    """Write a trained network."""
    tensors: dict[str, NDArray[np.generic]] = {}
    exponents: dict[str, int] = {}
    for name, kernel in kernels(model).items():
        words, live = np.asarray(kernel.words[...]), np.asarray(kernel.live[...])
        written = _put(exponents, f"{name}.words", words, live, int(kernel.bits[...]))
        stored = _stored(kernel)
        memory = np.zeros(int(kernel.n_stored[...]), written.dtype)
        memory[stored] = written[: len(stored)]
        tensors[f"{name}.words"] = memory
        mask = np.asarray(kernel.mask[...]).T > 0
        if not mask.all():
            tensors[f"{name}.mask"] = _packed(mask)
    for name, (bias, kernel_bits) in biases(model).items():
        bits = BIAS_BITS if kernel_bits else 0
        tensors[name] = _put(exponents, name, bias, np.ones_like(bias), bits)
    metadata = {"format": FORMAT, "exponents": json.dumps(exponents)}
    path.write_bytes(safetensors.numpy.save(tensors, metadata))


def load_weights(path: Path, network: Network, task: Task, seed: int) -> RecurrentNetwork:
    """The network that `save_weights` wrote.

    Raises:
        DataError: if the file is missing, damaged, or belongs to another network.
    """
    try:
        with safetensors.safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, safetensors.SafetensorError) as error:
        raise DataError(f"{path}: cannot be read ({error}); export the design again") from None
    if metadata.get("format") != FORMAT:
        raise DataError(f"{path}: is not '{FORMAT}' but {metadata.get('format')!r}; export the design again")
    exponents = json.loads(metadata["exponents"])
    values = {
        name: tensor.astype(np.float32) * np.float32(2.0 ** exponents[name]) if name in exponents else tensor
        for name, tensor in tensors.items()
        if not name.endswith(".mask")
    }
    model = build(network, task, seed)
    weights: Weights = {}
    try:
        for name, kernel in kernels(model).items():
            memory, n_stored = values[f"{name}.words"], int(kernel.n_stored[...])
            if len(memory) != n_stored:
                raise ValueError(f"{name} has {len(memory)} words, not {n_stored}")
            words = memory[_stored(kernel)]
            weights[f"{name}.words"] = np.pad(words, (0, kernel.words.shape[0] - len(words)))
            mask = np.asarray(kernel.mask[...]).T > 0
            if f"{name}.mask" in tensors and not np.array_equal(_packed(mask), tensors[f"{name}.mask"]):
                raise DataError(f"{path}: {name} was drawn with other random positions than numpy draws now")
        weights |= {name: values[name] for name in biases(model)}
        return restore(network, task, seed, weights)
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: does not fit the network of its design.toml ({error})") from None


def _packed(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Eight columns to a byte, row by row: safetensors writes memory as it lies, so it must lie in C order."""
    return np.packbits(np.ascontiguousarray(mask), axis=1)


def _stored(kernel: CompressedKernel) -> NDArray[np.int32]:
    """For each trained word its place among the words that the structure stores."""
    n_live = int(np.asarray(kernel.live[...]).sum())
    return np.asarray(kernel.stored[...])[:n_live]


def _put(
    exponents: dict[str, int], name: str, values: NDArray[np.float32], live: NDArray[np.float32], bits: int
) -> NDArray[np.generic]:
    """The words as they are written; the exponent of whole numbers is noted under `name`."""
    if bits == 0:
        return values
    exponent = int(best_exponent(jnp.asarray(values), jnp.asarray(live), jnp.int32(bits)))
    exponents[name] = exponent
    return np.asarray(to_integer(jnp.asarray(values), bits, exponent)).astype(np.int8 if bits <= 8 else np.int16)
