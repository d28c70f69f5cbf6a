"""Weights as hardware stores them: whole numbers, and one power-of-two exponent a tensor.

`NAME.words` holds the words that the structure stores, in its order (those that only pad a block are
zero), not the padding of the training form; of a tensor structure the factors one after the other, each
in C order. By weight format, with e the tensor's entry in the table `exponents` of the metadata:

    float             float32, as they are
    fixed             n * 2^e; n in int8 up to 8 bits, else in int16
    power_of_two      int8 code: 0, or the sign times (exponent - e + 1), e the smallest exponent in use
    binary, ternary   int8 -1, 0 or +1, times the float32 number in `NAME.scale`

Biases and peepholes are fixed, 16 bits, or float beside a float kernel. What is not trained, the threshold of the
states for one, is in the design.
Random structure comes as its mask, bits packed (`NAME.mask`), so that nobody needs our random numbers to place
the words: row by row, each row's words by ascending column.

Batch normalisation comes folded: float32 scales and shifts, whose equations are those of
`codesign.models.batch_norm.Folded`. Each has a row for every step with constants of its own, the last of
which serves all later steps, or one row for all steps:

    layers.N.scale_x, layers.N.scale_h    (rows, gates * hidden), of the two products
    layers.N.shift                        (rows, 4 * hidden), what the means leave of the bias
    layers.N.scale_c, layers.N.shift_c    (rows, hidden), of the LSTM's c

There is no bias beside them, and no `NAME.scale`: the constant of binary and ternary words is part of scale_x
and scale_h (of a tensor kernel to the power of its factors, of which every product takes a word each), so that
such words stand for -1, 0 and +1 and a gate output takes one multiplication for each product. Shifts are not
rounded to 16 bits like a bias: that moves scores in their third or fourth decimal, and a few decisions with them.
As they are, scores differ from those before the export by float rounding alone, which at most lets a word of
the activations round the other way.
"""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx
from numpy.typing import NDArray

from codesign.design import Network
from codesign.errors import DataError
from codesign.models import CompressedKernel, RecurrentNetwork
from codesign.models.batch_norm import CellBatchNorm, Folded
from codesign.models.kernel import StoredWords, written_bias
from codesign.models.recurrent import AnyKernel, RecurrentLayer
from codesign.numerics.fixed_point import to_integer
from codesign.numerics.weight_formats import BIAS_BITS, Code, best_exponent, exponent_range
from codesign.tasks import Task
from codesign.training import Weights, build, restore
from codesign.training.step import split
from codesign.training.trainer import flat

FORMAT = "codesign weights 1"
SIGNS = (Code.BINARY, Code.TERNARY)
"""Formats of one constant, times -1, 0 or +1."""

_words_in_memory = nnx.jit(StoredWords.written)  # compiled once for all kernels of a size


def kernels(model: RecurrentNetwork) -> dict[str, AnyKernel]:
    """Every kernel of a network by dotted name, input to output."""
    first = {"embedding": model.embedding} if model.embedding is not None else {}
    return {**first, **model.kernels(), "head": model.head}


def normalised(model: RecurrentNetwork) -> dict[str, tuple[RecurrentLayer, CellBatchNorm]]:
    """By dotted name every layer with batch normalisation, and that."""
    return {
        f"layers.{index}": (layer, layer.batch_norm)
        for index, layer in enumerate(model.layers)
        if layer.batch_norm is not None
    }


def biases(model: RecurrentNetwork) -> dict[str, AnyKernel]:
    """By dotted name of every bias and all peepholes: the kernel to whose products they are added.

    Biases of normalised layers are part of a shift and not among them.
    """
    named: dict[str, AnyKernel] = {}
    for index, layer in enumerate(model.layers):
        if layer.batch_norm is None:
            named[f"layers.{index}.bias"] = layer.input_kernel
        if layer.peepholes is not None:
            named[f"layers.{index}.peepholes"] = layer.input_kernel
    return named | {"bias": model.head}


def save_weights(model: RecurrentNetwork, path: Path) -> None:
    """Write a trained network."""
    rest, exponents = _unfolded(model), dict[str, int]()
    tensors: dict[str, NDArray[np.generic]] = {**_folded(model)}
    for name, kernel in kernels(model).items():
        del rest[f"{name}.words"]
        tensors[f"{name}.words"] = _in_memory(kernel, _written(exponents, f"{name}.words", kernel))
        if _code(kernel) in SIGNS and not normalised(model):
            tensors[f"{name}.scale"] = np.asarray(kernel.scale[...])
        mask = _mask(kernel)
        if not mask.all():
            tensors[f"{name}.mask"] = _packed(mask)
    for name, kernel in biases(model).items():
        bias, bits = rest.pop(name), 0 if _code(kernel) == Code.FLOAT else BIAS_BITS
        tensors[name] = _fixed(exponents, name, bias, np.ones_like(bias), bits) if bits else bias
    tensors |= rest
    metadata = {"format": FORMAT, "exponents": json.dumps(exponents)}
    path.write_bytes(safetensors.numpy.save(tensors, metadata))


def load_weights(path: Path, network: Network, task: Task, seed: int) -> RecurrentNetwork:
    """The network that `save_weights` wrote; one with batch normalisation evaluates the same within float rounding.

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
    model = build(network, task, seed)
    params, folded = flat(split(model)[1]), _folded(model)
    weights: Weights = {name: np.zeros_like(values) for name, values in params.items()}
    scales: dict[str, NDArray[np.float32]] = {}
    try:
        for name, kernel in kernels(model).items():
            if _code(kernel) in SIGNS:
                scales[name] = np.ones((), np.float32) if folded else tensors[f"{name}.scale"]
            memory = _values(tensors, exponents, f"{name}.words", _code(kernel), scales.get(name))
            weights[f"{name}.words"] = _from_memory(kernel, name, memory)
            mask = _mask(kernel)
            if f"{name}.mask" in tensors and not np.array_equal(_packed(mask), tensors[f"{name}.mask"]):
                raise DataError(f"{path}: {name} was drawn with other random positions than numpy draws now")
        for name in _unfolded(model).keys() - {f"{name}.words" for name in kernels(model)}:
            weights[name] = _values(tensors, exponents, name, Code.FIXED if name in exponents else Code.FLOAT)
        found = weights | {name: _values(tensors, exponents, name, Code.FLOAT) for name in folded}
        for name, wanted in (params | folded).items():
            if found[name].shape != wanted.shape:
                raise ValueError(f"{name} is of shape {found[name].shape}, not {wanted.shape}")
        model = restore(network, task, seed, weights)
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: does not fit the network of its design.toml ({error})") from None
    for name, scale in scales.items():
        kernels(model)[name].scale[...] = jnp.asarray(scale)
    for name, (_, norm) in normalised(model).items():
        fields = {field: f"{name}.{field}" for field in Folded._fields}
        norm.set_folded(Folded(**{field: jnp.asarray(found[key]) for field, key in fields.items() if key in found}))
    return model


def _unfolded(model: RecurrentNetwork) -> Weights:
    """Parameters that are written one by one: all but normalisations, and the biases beside them."""
    away = tuple(f"{name}.{part}" for name in normalised(model) for part in ("bias", "batch_norm."))
    return {name: values for name, values in flat(split(model)[1]).items() if not name.startswith(away)}


def _folded(model: RecurrentNetwork) -> Weights:
    """By dotted name what is written of normalisations, the biases beside them and the constants of words."""
    named: Weights = {}
    for name, (layer, norm) in normalised(model).items():
        folded = norm.folded(layer.cell, written_bias(layer.bias[...], layer.input_kernel))
        folded = folded._replace(
            scale_x=folded.scale_x * _constant(layer.input_kernel),
            scale_h=folded.scale_h * _constant(layer.recurrent_kernel),
        )
        named |= {f"{name}.{field}": np.asarray(v) for field, v in folded._asdict().items() if v is not None}
    return named


def _constant(kernel: AnyKernel) -> float:
    """What a product with -1, 0 and +1 in place of binary or ternary words is to be multiplied by; 1 for others."""
    n_factors = 1 if isinstance(kernel, CompressedKernel) else len(kernel.network.factors)
    return float(kernel.scale[...]) ** n_factors if _code(kernel) in SIGNS else 1.0


def _code(kernel: StoredWords) -> Code:
    return Code(int(kernel.code[...]))


def _mask(kernel: AnyKernel) -> NDArray[np.bool_]:
    """(gates * rows, cols) where the kernel may be non-zero; a tensor structure has no such places."""
    return np.asarray(kernel.mask[...]).T > 0 if isinstance(kernel, CompressedKernel) else np.ones((1, 1), bool)


def _packed(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Eight columns to a byte, row by row: safetensors writes memory as it lies, so it must lie in C order."""
    return np.packbits(np.ascontiguousarray(mask), axis=1)


def _in_memory(kernel: AnyKernel, written: NDArray[np.generic]) -> NDArray[np.generic]:
    """Words in the order of the structure's memory."""
    if not isinstance(kernel, CompressedKernel):
        return written
    stored = _stored(kernel)
    memory = np.zeros(int(kernel.n_stored[...]), written.dtype)
    memory[stored] = written[: len(stored)]
    return memory


def _from_memory(kernel: AnyKernel, name: str, memory: NDArray[np.float32]) -> NDArray[np.float32]:
    """Words in the order of training, padded."""
    n_stored = int(kernel.n_stored[...]) if isinstance(kernel, CompressedKernel) else kernel.words.shape[0]
    if len(memory) != n_stored:
        raise ValueError(f"{name} has {len(memory)} words, not {n_stored}")
    if not isinstance(kernel, CompressedKernel):
        return memory
    words = memory[_stored(kernel)]
    return np.pad(words, (0, kernel.words.shape[0] - len(words)))


def _stored(kernel: CompressedKernel) -> NDArray[np.int32]:
    """For each trained word its place among the words that the structure stores."""
    n_live = int(np.asarray(kernel.live[...]).sum())
    return np.asarray(kernel.stored[...])[:n_live]


def _written(exponents: dict[str, int], name: str, kernel: StoredWords) -> NDArray[np.generic]:
    """All words of a kernel as the module's table says; exponents are noted under `name`."""
    words, live, bits, code = kernel.words[...], kernel.live[...], int(kernel.bits[...]), _code(kernel)
    if code == Code.FLOAT:
        return np.asarray(words)
    if code == Code.FIXED:
        return _fixed(exponents, name, np.asarray(words), np.asarray(live), bits)
    written = np.asarray(_words_in_memory(kernel))
    signs: NDArray[np.int8] = np.sign(written).astype(np.int8)
    if code in SIGNS:
        return signs
    smallest = int(exponent_range(words, live, kernel.bits[...])[0])
    exponents[name] = smallest
    exponent = np.frexp(written)[1] - 1
    codes: NDArray[np.int8] = signs * np.where(signs, exponent - smallest + 1, 0).astype(np.int8)
    return codes


def _fixed(
    exponents: dict[str, int], name: str, values: NDArray[np.float32], live: NDArray[np.float32], bits: int
) -> NDArray[np.generic]:
    """Whole numbers of `bits` bits; their exponent is noted under `name`."""
    exponent = int(best_exponent(jnp.asarray(values), jnp.asarray(live), jnp.int32(bits)))
    exponents[name] = exponent
    return np.asarray(to_integer(jnp.asarray(values), bits, exponent)).astype(np.int8 if bits <= 8 else np.int16)


def _values(
    tensors: dict[str, NDArray[np.generic]],
    exponents: dict[str, int],
    name: str,
    code: Code,
    scale: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """What a tensor of the file stands for."""
    stored = tensors[name].astype(np.float32)
    if code == Code.FIXED:
        return np.ldexp(stored, exponents[name])
    if code == Code.POWER_OF_TWO:
        sizes = np.ldexp(np.float32(1.0), np.abs(stored).astype(np.int32) + exponents[name] - 1)
        return np.where(stored == 0, np.float32(0.0), np.sign(stored) * sizes)
    return stored if scale is None else stored * scale
