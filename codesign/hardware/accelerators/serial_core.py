"""Our own core: weights stream in series past P multiply-accumulate lanes.

One word of the weight memory, G = max(1, P/K) words of K x K circulant blocks, is read a cycle; a
rotating register of K activations gives each stored word K different inputs. So circulant blocks
save weight memory and its reads, but NOT cycles: the product stays in the time domain. `schedule`
has the cycle formula, `lanes` the fabric.

Exact, cycle for cycle, in simulations of its RTL (which is not part of this release): one LSTM layer
whose two kernels have the same structure. All else here - the GRU, further layers, mixed structures,
the head - follows by the same counting and is listed in `unproven`. A coarse-grain kernel keeps its
selectors in a memory of their own, one column number for each kept column of each chunk of rows, which
is more than its `index_bits`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.design import ACTIVITY_BLOCKS
from codesign.hardware.accelerators.kind import AcceleratorKind, Bill, Settings, network_faults, price
from codesign.hardware.accelerators.lanes import (
    accumulator_bits,
    lane_area,
    lane_fabric,
    step_energy,
    step_memories,
)
from codesign.hardware.accelerators.schedule import Stream, step_cycles, stream_layer
from codesign.hardware.cost import Array, Cost, Infeasible, Parts
from codesign.hardware.memory import Memory
from codesign.hardware.technology import FpgaPart, Operations, Technology
from codesign.hardware.workload import Layer, Product, Workload

STRUCTURES = ("dense", "block_circulant", "coarse_grain")


def _shared(layer: Layer) -> bool:
    """Whether both kernels are streamed from one memory in one lane grouping, as in the RTL."""
    x, h = layer.input_kernel, layer.recurrent_kernel
    return (x.structure, x.block_size, x.word_length) == (h.structure, h.block_size, h.word_length)


def _memories(workload: Workload, n_pe: Array) -> dict[str, Memory]:
    kernels = {
        "input_kernel": [layer.input_kernel for layer in workload.layers],
        "recurrent_kernel": [layer.recurrent_kernel for layer in workload.layers],
    }
    if _shared(workload.layers[0]):
        kernels = {"kernels": kernels["input_kernel"] + kernels["recurrent_kernel"]}
    x, h = workload.layers[0].input_kernel, workload.layers[0].recurrent_kernel
    register = max(x.block_size, h.block_size)
    n_inputs = 0 if x.one_hot else x.padded_cols
    n_activations = n_inputs + 2 * sum(layer.recurrent_kernel.padded_cols for layer in workload.layers)
    one = np.ones_like(n_pe)
    weights = {name: _rom(products, n_pe) for name, products in kernels.items()}
    selectors = [p for p in workload.products if p.structure == "coarse_grain"]
    if selectors:
        depth = sum(p.gates * np.ceil(p.rows / n_pe) * p.row_macs for p in selectors)
        weights["selectors"] = Memory(max(_column_bits(p) for p in selectors) * one, depth * one)
    # x and both banks of h, a column memory for each entry of the rotating register
    activations = Memory(workload.activation_bits * one, np.ceil(n_activations / register) * one, copies=register)
    return weights | {"activations": activations} | step_memories(workload, n_pe)


def _group(product: Product, n_pe: Array) -> Array:
    """Weights in a word of the weight memory."""
    return np.maximum(1.0, n_pe // product.block_size)


def _rom(products: list[Product], n_pe: Array) -> Memory:
    """Products that share a memory differ in their columns only."""
    width = _group(products[0], n_pe) * products[0].word_length
    chunks = [p.gates * np.ceil(p.rows / np.maximum(n_pe, p.block_size)) * p.row_macs for p in products]
    return Memory(width, np.sum(chunks, axis=0))


def _column_bits(product: Product) -> int:
    return max(1, (product.padded_cols - 1).bit_length())


def _kernel_energy(
    workload: Workload,
    streams: list[Stream],
    n_pe: Array,
    memories: dict[str, Memory],
    operations: Operations,
) -> Parts:
    """Multiply-accumulates and reads of both kernels; skipped columns cost neither."""
    bits, accumulator = workload.activation_bits, accumulator_bits(workload)
    read_j = {name: operations.read_j(memory) for name, memory in memories.items()}
    # at the size of all weights, so that two memories never look dearer to share than to split
    kernels = [memory for name, memory in memories.items() if "kernel" in name]
    all_bits = np.sum([memory.bits for memory in kernels], axis=0)
    n_chunks = np.ceil(workload.hidden / n_pe)
    parts: Parts = {}
    for name in ("input_kernel", "recurrent_kernel"):
        product: Product = getattr(workload.layers[0], name)
        columns = sum(s.input_columns if name == "input_kernel" else s.recurrent_columns for s in streams)
        mac_j = operations.multiply_j(product.word_length, bits) + operations.add_j(accumulator)
        word_bits = _group(product, n_pe) * product.word_length
        parts[f"{name}_macs"] = np.full_like(n_pe, workload.hidden * columns * mac_j)
        weight_j = operations.read_j(Memory(word_bits, all_bits / word_bits))
        parts[f"{name}_weights"] = n_chunks * columns * word_bits * weight_j
        parts[f"{name}_activations"] = n_chunks * columns * bits * read_j["activations"]
        if product.structure == "coarse_grain":
            parts[f"{name}_selectors"] = n_chunks * columns * memories["selectors"].width * read_j["selectors"]
    return parts


def _fabric(workload: Workload, n_pe: Array) -> dict[str, Parts]:
    kernels = workload.products[:-1]
    register = max(kernel.block_size for kernel in kernels)
    word_bits = np.max([_group(kernel, n_pe) * kernel.word_length for kernel in kernels], axis=0)
    return lane_fabric(n_pe, accumulator_bits(workload), workload.activation_bits, register, word_bits)


def _useful_sizes(workload: Workload) -> NDArray[np.int64]:
    """Numbers of lanes that fill every chunk and fit every block."""
    sizes = np.arange(1, workload.hidden + 1)
    useful = workload.hidden % sizes == 0
    for kernel in workload.products[:-1]:
        useful &= _fits_block(sizes, kernel.block_size)
        if kernel.level2_block:
            useful &= kernel.level2_block % sizes == 0
    return np.asarray(sizes[useful], np.int64)


def _fits_block(n_pe: NDArray[np.int64], block_size: int) -> NDArray[np.bool_]:
    fits: NDArray[np.bool_] = (n_pe % block_size == 0) | (block_size % n_pe == 0)
    return fits


def _faults(workload: Workload, settings: Settings) -> tuple[NDArray[np.int64], dict[str, Any]]:
    n_pe = settings.n_pe
    mask, facts = network_faults(
        workload, "serial_core", STRUCTURES, lacks=("projection", "batch normalisation", "peepholes")
    )
    kernels = workload.products[:-1]
    uneven = [k.largest_block for k in kernels if workload.hidden % k.largest_block]
    if uneven:
        mask |= Infeasible.BLOCK_DIVIDES_HIDDEN
    if workload.segments is None:
        mask |= Infeasible.ACTIVATION_FUNCTION
    elif workload.segments & (workload.segments - 1):
        mask |= Infeasible.SEGMENTS
    infeasible = np.full(len(n_pe), int(mask), np.int64)
    infeasible |= np.where(settings.batch > 1, int(Infeasible.BATCH), 0)
    infeasible |= np.where(settings.off_chip, int(Infeasible.OFF_CHIP), 0)
    infeasible |= np.where(workload.hidden % n_pe, int(Infeasible.PE_DIVIDES_HIDDEN), 0)
    misfit = np.ones_like(n_pe)
    for kernel in kernels:
        fits = _fits_block(n_pe, kernel.block_size)
        infeasible |= np.where(fits, 0, int(Infeasible.PE_FITS_BLOCK))
        misfit = np.where(fits, misfit, kernel.block_size)
        if kernel.level2_block:
            infeasible |= np.where(kernel.level2_block % n_pe, int(Infeasible.PE_FITS_SELECTORS), 0)
    useful = _useful_sizes(workload)
    return infeasible, facts | {
        "uneven_block": uneven[0] if uneven else None,
        "segments": workload.segments,
        "block_size": misfit,
        "level2_block": min((k.level2_block for k in kernels if k.level2_block), default=None),
        "useful_n_pe": useful[np.minimum(np.searchsorted(useful, n_pe), len(useful) - 1)],
    }


def _unproven(workload: Workload, technology: Technology) -> tuple[str, ...]:
    layer = workload.layers[0]
    h = layer.recurrent_kernel
    measured = workload.activity is None or h.block_size in ACTIVITY_BLOCKS
    doubts = {
        "the output layer has no RTL; its cycles follow by the same counting": True,
        "the GRU has no RTL; its cycles follow by the same counting": workload.cell == "gru",
        "further layers have no RTL; they are counted one after another": len(workload.layers) > 1,
        "two kernels of different structure or word length have no RTL": not _shared(layer),
        "a token's column has no RTL; it is counted as a block of columns at a known place": layer.input_kernel.one_hot,
        "LUT and FF come from synthesis without place and route": isinstance(technology, FpgaPart),
        "LUT and FF were fitted on the 7-series and not checked on another family": (
            isinstance(technology, FpgaPart) and technology.family != "7-series"
        ),
        "activity is not measured for this block size; no state is taken as zero": (
            workload.skips_state and h.structure != "coarse_grain" and not measured
        ),
    }
    return tuple(text for text, applies in doubts.items() if applies)


def estimate(workload: Workload, settings: Settings, technology: Technology) -> Cost:
    """Cost of one time step on the core; a workload without activity gives the worst case."""
    n_pe = settings.n_pe.astype(np.float64)
    streams = [stream_layer(workload, index) for index in range(len(workload.layers))]
    memories = _memories(workload, n_pe)
    operations = technology.operations
    kernels_j = _kernel_energy(workload, streams, n_pe, memories, operations)
    weight_bits = max(product.word_length for product in workload.products)
    area = lane_area(n_pe, weight_bits, workload.activation_bits, accumulator_bits(workload), operations)
    infeasible, facts = _faults(workload, settings)
    bill = Bill(
        cycles=step_cycles(workload, streams, n_pe),
        energy_j=kernels_j | step_energy(workload, memories, operations),
        fabric=_fabric(workload, n_pe),
        area_mm2=area,
        memories=memories,
        infeasible=infeasible,
        facts=facts,
        unproven=_unproven(workload, technology),
    )
    return price(bill, workload, settings, technology)


SERIAL_CORE = AcceleratorKind(
    summary="our weight-serial core: dense, block-circulant or coarse-grain kernels, skips zero states",
    structures=STRUCTURES,
    estimate=estimate,
)
