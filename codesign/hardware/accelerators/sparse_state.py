"""State skipping (Ardakani, Ji, Gross, DATE 2019): columns that meet a zero state are neither fetched nor multiplied.

B streams side by side share every weight that comes in. A column j of the recurrent kernel is left out of
a step where h[j] is zero in all B streams. With k columns kept, a layer of G gates and H units on P
multiply-accumulate units takes, in cycles,

    work  = ceil(B * N_in / P) + ceil(B * k * G * H / P)                              (1)
    fetch = (N_in' * b_x + k * G * H * b_h) * clock / (share * bandwidth)             (2)
    layer = max(work, fetch)                                                          (3)

with N_in words of the input kernel used by one stream and N_in' used by any, b bits a word, and the share
of the bandwidth that weights fill. The figure is the mean of the step's own (3) over the measured
histogram of k; in the breakdown, work by kernel and `dram_wait` = layer - work. Kernels on the chip are
never waited for. The tail and the head follow by the same counting. An encoder writes, for each column
kept, the offset from the one before.

Equations (4) to (6), what is assumed and what is recalled: docs/accelerators/sparse_state.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.hardware.accelerators.dense import FILL
from codesign.hardware.accelerators.kind import AcceleratorKind, Bill, Settings, network_faults, price
from codesign.hardware.accelerators.lanes import (
    accumulator_bits,
    lane_area,
    lane_fabric,
    step_energy,
    step_memories,
)
from codesign.hardware.cost import Array, Cost, Parts
from codesign.hardware.memory import Constant, Memory
from codesign.hardware.technology import Operations, Technology
from codesign.hardware.workload import Product, Workload

STRUCTURES = ("dense",)
WEIGHT_SHARE = Constant(
    24 * 8 / 256,
    "1",
    "Ardakani et al., DATE 2019: 24 weights of 8 bits a cycle of 256 bits (51.2 Gbit/s at 200 MHz)",
    "M",
)
"""Share of the bandwidth that brings weights."""


@dataclass(frozen=True)
class Streamed:
    """A kernel as a step of one layer streams it, mean over steps, one entry a setting.

    Attributes:
        columns: that a stream's activations meet.
        fetched: columns brought in for the batch; more where each stream looks up one of its own.
        cycles: of its multiply-accumulates, for the batch.
    """

    product: Product
    columns: Array
    fetched: Array
    cycles: Array

    @property
    def column_words(self) -> int:
        """Weights of a column, all gates."""
        return self.product.gates * self.product.padded_rows


@dataclass(frozen=True)
class LayerStep:
    """What a step of one layer streams, and the cycles it waits for it."""

    input_kernel: Streamed
    recurrent_kernel: Streamed
    wait: Array


def _measured(workload: Workload, index: int, batch: int) -> tuple[int, Sequence[float]] | None:
    """The fewest measured streams that hold a batch, and their histogram; None where there is none."""
    if not workload.skips_state or workload.activity is None:
        return None
    histograms = workload.activity[index].items()
    return min(
        ((streams, blocks[1]) for streams, blocks in histograms if streams >= batch and 1 in blocks), default=None
    )


def _shares(workload: Workload, index: int, batches: NDArray[np.int64]) -> Array:
    """How often a step keeps 0, 1, 2, ... columns, (n_batches, columns + 1); all of them without a measurement."""
    n_columns = workload.layers[index].recurrent_kernel.cols
    worst = (0.0,) * n_columns + (1.0,)
    return np.array([(_measured(workload, index, batch) or (batch, worst))[1] for batch in batches.tolist()])


def _layer_step(workload: Workload, index: int, settings: Settings, n_pe: Array) -> LayerStep:
    """Equations (1) to (3), (n_settings, kinds of step) before the mean over kinds."""
    x, h = workload.layers[index].input_kernel, workload.layers[index].recurrent_kernel
    batch = settings.batch.astype(np.float64)
    batches, which = np.unique(settings.batch, return_inverse=True)
    if workload.skips_state and workload.activity is not None:
        shares = _shares(workload, index, batches)[which]
        kept = np.arange(shares.shape[1], dtype=np.float64)
    else:  # one kind of step: it keeps all columns
        shares, kept = np.ones((len(settings), 1)), np.array([float(h.cols)])
    words = h.macs * kept / h.cols

    fetched = x.columns * (np.minimum(batch, x.cols) if x.one_hot else np.ones_like(batch))
    input_cycles = np.ceil(batch * x.macs / n_pe)
    cycles = np.ceil(batch[:, None] * words / n_pe[:, None])
    bits = (fetched * x.gates * x.padded_rows * x.word_length)[:, None] + words * h.word_length
    fetch = bits * settings.dram_cycles(1 / WEIGHT_SHARE.value)[:, None]
    wait = np.maximum(0.0, fetch - (input_cycles[:, None] + cycles))

    columns = h.columns * (kept * shares).sum(-1) / h.cols
    return LayerStep(
        input_kernel=Streamed(x, np.full_like(n_pe, x.columns), fetched, input_cycles),
        recurrent_kernel=Streamed(h, columns, columns, (cycles * shares).sum(-1)),
        wait=(wait * shares).sum(-1),
    )


def _cycles(workload: Workload, steps: list[LayerStep], settings: Settings, n_pe: Array) -> Parts:
    element_wise = [np.ceil(settings.batch * layer.multiplications / n_pe) for layer in workload.layers]
    return {
        "input_kernel": np.sum([step.input_kernel.cycles for step in steps], axis=0),
        "recurrent_kernel": np.sum([step.recurrent_kernel.cycles for step in steps], axis=0),
        "dram_wait": np.sum([step.wait for step in steps], axis=0),
        "element_wise": np.sum(element_wise, axis=0),
        "head": np.ceil(settings.batch * workload.head.macs / n_pe),
        "fill": np.full_like(n_pe, FILL * (len(workload.layers) + 1)),
    }


def _rows(settings: Settings, n_pe: Array) -> Array:
    """Equation (4): the units are shared out among the streams, a row each at least."""
    return np.asarray(np.ceil(n_pe / settings.batch), np.float64)


def _offset_bits(workload: Workload) -> int:
    """An offset can be as long as the state."""
    return (workload.layers[0].recurrent_kernel.cols - 1).bit_length()


def _memories(workload: Workload, settings: Settings, n_pe: Array) -> dict[str, Memory]:
    batch, rows, one = settings.batch.astype(np.float64), _rows(settings, n_pe), np.ones_like(n_pe)
    memories = {}
    for name in ("input_kernel", "recurrent_kernel"):
        products: list[Product] = [getattr(layer, name) for layer in workload.layers]
        depth = np.ceil(sum(p.n_words for p in products) / rows)
        memories[name] = Memory(rows * products[0].word_length, np.where(settings.off_chip, 0.0, depth))
    x = workload.layers[0].input_kernel
    n_states = sum(layer.recurrent_kernel.cols for layer in workload.layers)
    n_activations = (0 if x.one_hot else x.cols) + 2 * n_states
    # the entries of all streams that meet a column lie side by side
    memories["activations"] = Memory(workload.activation_bits * batch, n_activations * one)
    if workload.skips_state:
        memories["offsets"] = Memory(_offset_bits(workload) * one, n_states * one)
    return memories | step_memories(workload, rows, batch)


def _kernel_energy(
    workload: Workload,
    steps: list[LayerStep],
    settings: Settings,
    n_pe: Array,
    memories: dict[str, Memory],
    operations: Operations,
) -> Parts:
    """Equation (5): a weight comes in once for all streams, an activation once for each group of rows."""
    bits, rows = workload.activation_bits, _rows(settings, n_pe)
    add_j = operations.add_j(accumulator_bits(workload))
    activation_j = bits * operations.read_j(memories["activations"])
    zero = np.zeros_like(n_pe)
    parts: Parts = {}
    for name in ("input_kernel", "recurrent_kernel"):
        macs, weights, outside, activations = zero, zero, zero, zero
        for step in steps:
            kernel: Streamed = getattr(step, name)
            word_bits, words = kernel.product.word_length, kernel.column_words
            read_bits = kernel.fetched * words * word_bits
            on_chip = np.where(settings.off_chip, 0.0, read_bits * operations.read_j(memories[name]))
            macs = macs + kernel.columns * words * (operations.multiply_j(word_bits, bits) + add_j)
            weights = weights + on_chip / settings.batch
            outside = outside + settings.dram_j(read_bits) / settings.batch
            activations = activations + kernel.columns * np.ceil(words / rows) * activation_j
        parts |= {f"{name}_macs": macs, f"{name}_weights": weights, f"{name}_activations": activations}
        parts[f"{name}_dram"] = outside
    return parts


def _encoder_energy(
    workload: Workload,
    steps: list[LayerStep],
    settings: Settings,
    n_pe: Array,
    memories: dict[str, Memory],
    operations: Operations,
) -> Parts:
    """Equation (6): each state entry meets the threshold; an offset is written once and read with its column."""
    if not workload.skips_state:
        return {}
    n_states = sum(layer.recurrent_kernel.cols for layer in workload.layers)
    compare = np.full_like(n_pe, n_states * operations.add_j(workload.activation_bits))
    kernels = [step.recurrent_kernel for step in steps]
    rows = _rows(settings, n_pe)
    accesses = np.sum([kernel.columns * (1 + np.ceil(kernel.column_words / rows)) for kernel in kernels], axis=0)
    offset_j = memories["offsets"].width * operations.read_j(memories["offsets"])
    return {"encoder": compare, "offsets": accesses * offset_j / settings.batch}


def _longest_word(workload: Workload) -> int:
    """Bits of a weight that every unit can multiply."""
    return max(product.word_length for product in workload.products)


def _area(workload: Workload, settings: Settings, n_pe: Array, operations: Operations) -> Parts:
    """The lanes, and one comparator a stream where states are skipped [mm2]."""
    bits = workload.activation_bits
    area = lane_area(n_pe, _longest_word(workload), bits, accumulator_bits(workload), operations)
    if workload.skips_state:
        area["encoder"] = settings.batch.astype(np.float64) * operations.add_mm2(bits)
    return area


def _unproven(workload: Workload, settings: Settings) -> tuple[str, ...]:
    x = workload.layers[0].input_kernel
    words = {product.word_length for product in workload.products} | {workload.activation_bits}
    doubts = {
        "sparse_state has no RTL; its cycles are the published peak rate, its units never idle, "
        "its lanes are priced as those of serial_core": True,
        "weights fill three quarters of the memory's bandwidth: recalled, not read": bool(settings.off_chip.any()),
        "the paper ran the LSTM; the GRU follows by the same counting": workload.cell == "gru",
        "the paper ran one layer; further ones are counted one after another": len(workload.layers) > 1,
        "the paper's words have 8 bits; others follow by the same counting": words != {8},
        "a token's column is counted for each stream; the published formula leaves it out": x.one_hot,
    }
    return (*(text for text, applies in doubts.items() if applies), *_unmeasured(workload, settings))


def _unmeasured(workload: Workload, settings: Settings) -> tuple[str, ...]:
    """Which batches have no histogram of their own, and what stands in for it."""
    if not workload.skips_state:
        return ()
    texts = []
    for batch in np.unique(settings.batch).tolist():
        for index in range(len(workload.layers)):
            measured = _measured(workload, index, batch)
            if measured is None:
                texts.append(f"no activity is measured for batch = {batch} or more; no state is taken as zero")
            elif measured[0] > batch:
                texts.append(f"activity is not measured for batch = {batch}; that of {measured[0]} streams bounds it")
    return tuple(dict.fromkeys(texts))


def estimate(workload: Workload, settings: Settings, technology: Technology) -> Cost:
    """Cost of one time step of one stream; a workload without activity gives the worst case."""
    n_pe, operations = settings.n_pe.astype(np.float64), technology.operations
    memories = _memories(workload, settings, n_pe)
    steps = [_layer_step(workload, index, settings, n_pe) for index in range(len(workload.layers))]
    mask, facts = network_faults(
        workload, "sparse_state", STRUCTURES, lacks=("projection", "batch normalisation", "peepholes")
    )
    kernels_j = _kernel_energy(workload, steps, settings, n_pe, memories, operations)
    encoder_j = _encoder_energy(workload, steps, settings, n_pe, memories, operations)
    step_j = step_energy(workload, memories, operations)
    step_j["head_weights"] = step_j["head_weights"] / settings.batch  # read once for all streams, as the kernels are
    word_bits = _rows(settings, n_pe) * _longest_word(workload)
    bill = Bill(
        cycles=_cycles(workload, steps, settings, n_pe),
        energy_j=kernels_j | encoder_j | step_j,
        fabric=lane_fabric(n_pe, accumulator_bits(workload), workload.activation_bits, 1, word_bits),
        area_mm2=_area(workload, settings, n_pe, operations),
        memories=memories,
        infeasible=np.full(len(settings), int(mask), np.int64),
        streams=settings.batch.astype(np.float64),
        facts=facts,
        unproven=_unproven(workload, settings),
    )
    return price(bill, workload, settings, technology)


SPARSE_STATE = AcceleratorKind(
    summary="Ardakani, Ji and Gross, DATE 2019: dense kernels, skips columns whose state is zero in all streams",
    structures=STRUCTURES,
    estimate=estimate,
)
