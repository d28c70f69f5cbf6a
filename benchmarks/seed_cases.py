"""Networks and recipes behind `benchmarks.seed_claims`: the six systems' own, what they are compared with.

Shapes and budgets are the same within a claim. Everything that could be tuned (learning rate, schedule,
block size, thresholds) was chosen on validation data with seed 0.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from codesign import tasks
from codesign.compression import CoarseGrain, Structure
from codesign.compression.structure import Array, Counts, Layout
from codesign.design import Network, Recipe
from codesign.tasks import Task

FLOAT = {"kind": "float"}


@dataclass(frozen=True)
class Case:
    """A network trained on a task. `blocks_kept`: of a dense parent's blocks of 8 x 8 the share with most energy."""

    task: Task
    network: Network
    recipe: Recipe
    blocks_kept: float | None = None


def dense(**fields: Any) -> Network:
    """A network in float throughout; `fields` replace that."""
    kernels = ("input_kernel", "recurrent_kernel", "projection_kernel")
    plain: dict[str, Any] = {name: {"weights": FLOAT} for name in kernels}
    plain |= dict.fromkeys(("head_weights", "embedding_weights", "activations"), FLOAT)
    return Network.model_validate(plain | fields)


def kernels(kernel: dict[str, Any]) -> dict[str, Any]:
    """The same for input and recurrent kernel."""
    return {"input_kernel": kernel, "recurrent_kernel": kernel}


def fixed(bits: int) -> dict[str, Any]:
    """A number format."""
    return {"kind": "fixed", "bits": bits}


def circulant(block: int, weights: Any) -> dict[str, Any]:
    """A block-circulant kernel."""
    return {"structure": {"kind": "block_circulant", "block_size": block}, "weights": weights}


def coarse(block1: int, keep1: float, block2: int, keep2: float, weights: Any) -> dict[str, Any]:
    """A coarse-grain kernel."""
    sizes = {"level1_block": block1, "level1_keep": keep1, "level2_block": block2, "level2_keep": keep2}
    return {"structure": {"kind": "coarse_grain", **sizes}, "weights": weights}


class MagnitudeBlocks(Structure):
    """Blocks of a trained dense kernel with the largest norms, wherever they lie: magnitude block pruning.

    Attributes:
        block: side of a block.
        kept: for each gate, row by row, which blocks are kept.
    """

    kind: Literal["magnitude_blocks"] = "magnitude_blocks"
    block: int
    kept: tuple[tuple[tuple[bool, ...], ...], ...]

    def layout(self, rows: int, cols: int, seed: int = 0) -> Layout:
        """Words of the kept blocks; the gate is the last digit of the seed."""
        blocks = np.array(self.kept[seed % len(self.kept)])
        mask = np.kron(blocks, np.ones((self.block, self.block), bool))[:rows, :cols]
        ids = np.where(mask, np.cumsum(mask.reshape(-1)).reshape(mask.shape) - 1, 0)
        return Layout(ids.astype(np.int32), mask, int(mask.sum()))

    def counts(self, rows: int, cols: int) -> Counts:
        """Of the mean gate: its words, and for each kept block its number in the row of blocks."""
        mean = np.mean([np.sum(gate) for gate in self.kept])
        bits = int(mean * np.ceil(np.log2(len(self.kept[0][0]))))
        words = int(mean * self.block**2)
        return Counts(n_words=words, index_bits=bits, row_macs=-(-words // rows), n_rows=rows)

    def matvec(self, words: Array, x: Array, rows: int, seed: int = 0) -> Array:
        """By the dense kernel: nobody built hardware for it."""
        return np.asarray(self.to_dense(words, rows, len(x), seed) @ x)

    @classmethod
    def of(cls, kernel: Array, gates: int, block: int, share: float) -> "MagnitudeBlocks":
        """From a dense kernel (gates * rows, cols): the share of all its blocks with the largest norms."""
        rows, cols = kernel.shape[0] // gates, kernel.shape[1]
        down, across = -(-rows // block), -(-cols // block)
        padded = np.zeros((gates, down * block, across * block))
        padded[:, :rows, :cols] = kernel.reshape(gates, rows, cols)
        energy = np.square(padded).reshape(gates, down, block, across, block).sum((2, 4))
        n_kept = max(1, round(share * energy.size))
        kept = energy >= np.sort(energy, axis=None)[-n_kept]
        return cls(block=block, kept=tuple(tuple(tuple(map(bool, row)) for row in gate) for gate in kept))


def unstructured(rows: int, cols: int, bits: int, budget: int) -> CoarseGrain:
    """Single words at random places, as many in every row, with at most so many bits a gate, places included."""
    for n in range(cols, 0, -1):
        structure = CoarseGrain(level1_block=1, level1_keep=n / cols, level2_block=1, level2_keep=1.0)
        counts = structure.counts(rows, cols)
        if counts.n_words * bits + counts.index_bits <= budget:
            return structure
    raise ValueError(f"{budget} bits hold not one word a row")


PHONES = tasks.find("ru_phones")
SHAKESPEARE = tasks.find("shakespeare_chars")
WORDS = tasks.find("shakespeare_words")
LINUX = tasks.find("linux_chars")
ROWS = tasks.find("fashion_rows")
VIDEO = tasks.find("moving_fashion")

PHONE = Recipe(epochs=12)
RETRAIN = Recipe(dense_epochs=4, epochs=8, learning_rate=0.04, later_rate=1.0)
LONG = Recipe(epochs=24)
ADMM = Recipe(dense_epochs=8, admm_epochs=8, epochs=8, admm_rho=1e-2, later_rate=1.0)
DIRECT = Recipe(epochs=24, learning_rate=0.04)
CHARS = Recipe(epochs=3, batch_size=32, sequence_length=50, learning_rate=0.01)
SOURCES = Recipe(epochs=3, batch_size=32, sequence_length=100, learning_rate=0.01)
SENTENCES = Recipe(epochs=3, batch_size=20, sequence_length=35, learning_rate=0.005)
IMAGES = Recipe(epochs=6, batch_size=32, learning_rate=0.01)
CLIPS = Recipe(epochs=6, batch_size=16, learning_rate=0.01)
DENSE_CLIPS = Recipe(epochs=6, batch_size=16, learning_rate=0.001)


def _from_dense(recipe: Recipe, dense_epochs: int, learning_rate: float) -> Recipe:
    """The same budget, its first epochs for a dense parent."""
    phases = {"dense_epochs": dense_epochs, "epochs": recipe.epochs - dense_epochs}
    return recipe.model_copy(update=phases | {"learning_rate": learning_rate, "later_rate": 1.0})


SIGNS = _from_dense(SOURCES, 1, 0.04)

LSTM = {"cell": "lstm", "hidden": 256}
PROJECTED = LSTM | {"projection": 128, "peephole": True}
GRU = {"cell": "gru", "hidden": 256}
ZEROS = {"state_threshold": 0.1, "state_sparsity": 0.91}
DECIDED = {"stochastic": False}
SEGMENTS = {"kind": "piecewise_linear", "segments": 16}


def _hybrid(weights: Any, block: int) -> dict[str, Any]:
    """Circulant kernels, short words, approximate activations."""
    words = {"head_weights": fixed(6), "activations": fixed(8), "activation_function": SEGMENTS}
    return words | kernels(circulant(block, weights))


def _ernn(cell: dict[str, Any], block: int) -> Network:
    """All kernels block-circulant."""
    kernel = circulant(block, FLOAT)
    projection = {"projection_kernel": kernel} if "projection" in cell else {}
    return dense(**cell, **kernels(kernel), **projection)


def _normalised(weights: Any) -> Network:
    """Words of one or two bits in both kernels behind normalisation in the cell."""
    return dense(**LSTM, batch_norm="frozen", **kernels({"weights": weights}))


HCGS_INPUT = coarse(8, 0.2, 2, 0.75, fixed(6))
HCGS_RECURRENT = coarse(16, 0.1875, 4, 0.25, fixed(6))
HCGS_WORDS = {"head_weights": fixed(6), "activations": fixed(13)}


def _random() -> dict[str, Any]:
    """Single random words in as many bits as the coarse-grain kernels take."""
    chosen = {}
    for name, kernel, cols in (("input_kernel", HCGS_INPUT, 39), ("recurrent_kernel", HCGS_RECURRENT, 256)):
        structure = CoarseGrain.model_validate(kernel["structure"])
        counts = structure.counts(256, cols)
        few = unstructured(256, cols, 6, counts.n_words * 6 + counts.index_bits)
        chosen[name] = {"structure": few, "weights": fixed(6)}
    return chosen


def _tensor(kind: str, **fields: Any) -> dict[str, Any]:
    return {"structure": {"kind": kind, "row_modes": "4x4x4x4", **fields}, "weights": FLOAT}


TUCKER = {"leaf_rank": 8, "inner_rank": 8}
CASES: dict[str, Case] = {
    "dense phones": Case(PHONES, dense(**LSTM), PHONE),
    "dense chars": Case(SHAKESPEARE, dense(**LSTM), CHARS),
    "dense words": Case(WORDS, dense(**LSTM, embedding=128), SENTENCES),
    "dense rows": Case(ROWS, dense(**LSTM), IMAGES),
    "dense linux": Case(LINUX, dense(**LSTM), SOURCES),
    "dense linux, batch_norm": Case(
        LINUX, dense(**LSTM, batch_norm="frozen"), SOURCES.model_copy(update={"learning_rate": 0.02})
    ),
    "dense video": Case(VIDEO, dense(**LSTM), DENSE_CLIPS),
    "hybrid phones": Case(PHONES, dense(**LSTM, **_hybrid(fixed(5), 4)), RETRAIN),
    "hybrid chars": Case(SHAKESPEARE, dense(**LSTM, **_hybrid(fixed(5), 4)), _from_dense(CHARS, 1, 0.04)),
    "sparse chars": Case(SHAKESPEARE, dense(**LSTM, **ZEROS), CHARS.model_copy(update={"learning_rate": 0.02})),
    "sparse words": Case(WORDS, dense(**LSTM, embedding=128, **ZEROS), _from_dense(SENTENCES, 1, 0.01)),
    "sparse rows": Case(ROWS, dense(**LSTM, **ZEROS), _from_dense(IMAGES, 2, 0.02)),
    "ternary linux": Case(
        LINUX, _normalised({"kind": "ternary"} | DECIDED), SIGNS.model_copy(update={"later_rate": 0.5})
    ),
    "ternary linux, drawn": Case(LINUX, _normalised("ternary"), SIGNS),
    "binary linux": Case(LINUX, _normalised({"kind": "binary"} | DECIDED), SIGNS),
    "binary linux, drawn": Case(LINUX, _normalised("binary"), SIGNS),
    "binaryconnect linux": Case(LINUX, dense(**LSTM, **kernels({"weights": "binary"})), SOURCES),
    "hcgs phones": Case(
        PHONES, dense(**LSTM, **HCGS_WORDS, input_kernel=HCGS_INPUT, recurrent_kernel=HCGS_RECURRENT), ADMM
    ),
    "hcgs phones, directly": Case(
        PHONES, dense(**LSTM, **HCGS_WORDS, input_kernel=HCGS_INPUT, recurrent_kernel=HCGS_RECURRENT), DIRECT
    ),
    "unstructured phones": Case(PHONES, dense(**LSTM, **HCGS_WORDS, **_random()), ADMM),
    "magnitude phones": Case(
        PHONES,
        dense(**LSTM, **HCGS_WORDS, **kernels({"weights": fixed(6)})),
        Recipe(dense_epochs=12, epochs=12, later_rate=1.0),
        blocks_kept=1 / 16,
    ),
    "fdht video": Case(
        VIDEO,
        dense(
            **LSTM,
            input_kernel=_tensor("hierarchical_tucker", col_modes="8x20x20x18", **TUCKER),
            recurrent_kernel=_tensor("hierarchical_tucker", col_modes="4x4x4x4", **TUCKER),
        ),
        CLIPS,
    ),
    "fdht video, input alone": Case(
        VIDEO,
        dense(**LSTM, input_kernel=_tensor("hierarchical_tucker", col_modes="8x20x20x18", **TUCKER)),
        CLIPS,
    ),
    "fdht video, circulant recurrence": Case(
        VIDEO,
        dense(
            **LSTM,
            input_kernel=_tensor("hierarchical_tucker", col_modes="8x20x20x18", **TUCKER),
            recurrent_kernel=circulant(8, FLOAT),
        ),
        CLIPS,
    ),
    "tensor_train video": Case(
        VIDEO, dense(**LSTM, input_kernel=_tensor("tensor_train", col_modes="8x20x20x18", rank=4)), CLIPS
    ),
}
for _name, _cell, _half, _rho in (("lstm", PROJECTED, 1.0, 1e-2), ("gru", GRU, 0.5, 3e-3)):  # a GRU diverges at 0.02
    _rate = {"learning_rate": _half * LONG.learning_rate}
    _direct = {"learning_rate": _half * DIRECT.learning_rate}
    CASES |= {
        f"dense {_name}": Case(PHONES, dense(**_cell), LONG.model_copy(update=_rate)),
        f"direct {_name} 8": Case(PHONES, _ernn(_cell, 8), DIRECT.model_copy(update=_direct)),
        f"admm {_name} 8": Case(PHONES, _ernn(_cell, 8), ADMM.model_copy(update=_rate | {"admm_rho": _rho})),
        f"admm {_name} 16": Case(PHONES, _ernn(_cell, 16), ADMM.model_copy(update=_rate | {"admm_rho": _rho})),
    }

BASELINES = tuple(name for name in CASES if name.startswith("dense") and "batch_norm" not in name)
LONGER = {
    name: f"{name}, twice as long" for name in ("dense phones", "dense chars", "dense rows", "dense lstm", "dense gru")
}
"""Baselines that take minutes, and what tells how much more of them would help; the others would take hours."""

CASES |= {
    longer: Case(
        CASES[name].task,
        CASES[name].network,
        CASES[name].recipe.model_copy(update={"epochs": 2 * CASES[name].recipe.epochs}),
    )
    for name, longer in LONGER.items()
}


def _short(act: int, head: int, **fields: Any) -> Network:
    """256 cells on phones in fixed point throughout, gates by segments."""
    words = {"head_weights": fixed(head), "activations": fixed(act), "activation_function": "piecewise_linear"}
    return dense(**LSTM | words | fields)


def _signs(recurrent: dict[str, Any]) -> Network:
    """Ternary words behind normalisation in the cell."""
    ternary = {"weights": "ternary"}
    return _short(8, 8, batch_norm="frozen", input_kernel=ternary, recurrent_kernel=ternary | recurrent)


def _clips(bits: int, into: dict[str, Any]) -> Network:
    """FDHT's recurrent kernel behind one of another kind."""
    words = {"weights": fixed(bits)}
    tree = _tensor("hierarchical_tucker", col_modes="4x4x4x4", **TUCKER)
    return _short(bits, bits, input_kernel=into | words, recurrent_kernel=tree | words)


_TWELVE = circulant(8, fixed(12))
_OWN = {
    "sparse phones": Case(PHONES, _short(8, 8, **ZEROS, **kernels({"weights": fixed(8)})), RETRAIN),
    "ternary phones": Case(PHONES, _signs({}), PHONE),
    "ernn phones": Case(
        PHONES,
        _short(
            12,
            12,
            **PROJECTED,
            **kernels(_TWELVE),
            projection_kernel=_TWELVE,
            activation_function={"kind": "piecewise_linear", "segments": 32},
        ),
        ADMM,
    ),
    "fdht video, 16 bits": Case(
        VIDEO, _clips(16, _tensor("hierarchical_tucker", col_modes="8x20x20x18", **TUCKER)), CLIPS
    ),
}
_TOGETHER = {
    "sparse states, 4 bits": Case(PHONES, _short(8, 6, **ZEROS, **kernels({"weights": fixed(4)})), RETRAIN),
    "ternary, half the blocks": Case(PHONES, _signs(coarse(16, 0.5, 4, 1.0, "ternary")), PHONE),
    "ternary, a quarter of the blocks": Case(PHONES, _signs(coarse(16, 0.5, 4, 0.5, "ternary")), PHONE),
    "coarse-grain, 4 bits, batch_norm, ADMM": Case(
        PHONES,
        _short(
            8,
            6,
            batch_norm="frozen",
            input_kernel=coarse(8, 0.4, 2, 0.75, fixed(4)),
            recurrent_kernel=coarse(16, 0.375, 4, 0.25, fixed(4)),
        ),
        ADMM,
    ),
    "HCGS's blocks, 4 bits, ADMM": Case(
        PHONES,
        _short(
            8,
            6,
            input_kernel=HCGS_INPUT | {"weights": fixed(4)},
            recurrent_kernel=HCGS_RECURRENT | {"weights": fixed(4)},
        ),
        ADMM,
    ),
    "tensor-train into Tucker, 12 bits": Case(
        VIDEO, _clips(12, _tensor("tensor_train", col_modes="8x20x20x18", rank=4)), CLIPS
    ),
}
CASES |= _OWN | _TOGETHER

COMBINATIONS: tuple[tuple[str, str, str], ...] = (
    ("hybrid_circulant", "hybrid phones", "ternary, a quarter of the blocks"),
    ("sparse_state", "sparse phones", "sparse states, 4 bits"),
    ("ternary", "ternary phones", "ternary, half the blocks"),
    ("ernn", "ernn phones", "coarse-grain, 4 bits, batch_norm, ADMM"),
    ("hcgs", "hcgs phones", "HCGS's blocks, 4 bits, ADMM"),
    ("fdht", "fdht video, 16 bits", "tensor-train into Tucker, 12 bits"),
)
"""A system, the case of its own network, and that of a combination for the same task."""
