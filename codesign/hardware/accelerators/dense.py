"""The baseline: P multiply-accumulate lanes, one output row each, dense kernels, weights on chip.

    cycles = sum over products ceil(gates * H / P) * cols  +  sum over layers ceil(3 H / P)  +  fill

The lanes also do the element-wise multiplications. An idealised array: no publication or RTL of
ours stands behind it. Its lanes are taken to cost what a lane of the serial core costs.
"""

import numpy as np

from codesign.hardware.accelerators.kind import AcceleratorKind, Bill, Settings, network_faults, price
from codesign.hardware.accelerators.lanes import (
    accumulator_bits,
    lane_area,
    lane_fabric,
    memory_area,
    step_energy,
    step_memories,
)
from codesign.hardware.cost import Array, Cost, Parts
from codesign.hardware.memory import Memory
from codesign.hardware.technology import Operations, Technology
from codesign.hardware.workload import Product, Workload

STRUCTURES = ("dense",)
FILL = 16
"""Cycles to fill and empty the pipeline, once a layer and once for the head; an assumption."""


def _kernels(workload: Workload) -> dict[str, list[Product]]:
    kernels = {
        "input_kernel": [layer.input_kernel for layer in workload.layers],
        "recurrent_kernel": [layer.recurrent_kernel for layer in workload.layers],
    }
    projections = [layer.projection for layer in workload.layers if layer.projection is not None]
    return kernels | ({"projection": projections} if projections else {})


def _chunks(product: Product, n_pe: Array) -> Array:
    """Chunks of P rows; the rows of all gates share chunks."""
    return np.asarray(np.ceil(product.gates * product.padded_rows / n_pe), np.float64)


def _passes(product: Product, n_pe: Array) -> Array:
    """Cycles in which a column meets a chunk."""
    return _chunks(product, n_pe) * product.columns


def _cycles(workload: Workload, n_pe: Array) -> Parts:
    kernels = _kernels(workload).items()
    parts = {name: np.sum([_passes(p, n_pe) for p in products], axis=0) for name, products in kernels}
    element_wise = [np.ceil(layer.multiplications / n_pe) for layer in workload.layers]
    return parts | {
        "element_wise": np.sum(element_wise, axis=0),
        "head": _passes(workload.head, n_pe),
        "fill": np.full_like(n_pe, FILL * (len(workload.layers) + 1)),
    }


def _memories(workload: Workload, n_pe: Array) -> dict[str, Memory]:
    memories = {
        name: Memory(n_pe * products[0].word_length, np.sum([_chunks(p, n_pe) * p.row_macs for p in products], axis=0))
        for name, products in _kernels(workload).items()
    }
    x = workload.layers[0].input_kernel
    n_activations = (0 if x.one_hot else x.cols) + 2 * workload.hidden * len(workload.layers)
    one = np.ones_like(n_pe)
    memories["activations"] = Memory(workload.activation_bits * one, n_activations * one)
    return memories | step_memories(workload, n_pe)


def _kernel_energy(workload: Workload, n_pe: Array, memories: dict[str, Memory], operations: Operations) -> Parts:
    """Each weight that a step needs is read once, each activation once a pass."""
    bits, accumulator = workload.activation_bits, accumulator_bits(workload)
    activation_j = bits * operations.read_j(memories["activations"].bits)
    parts: Parts = {}
    for name, products in _kernels(workload).items():
        word_length = products[0].word_length
        mac_j = operations.multiply_j(word_length, bits) + operations.add_j(accumulator)
        weight_j = word_length * operations.read_j(memories[name].bits)
        parts[f"{name}_macs"] = np.full_like(n_pe, sum(p.macs for p in products) * mac_j)
        parts[f"{name}_weights"] = sum(p.n_words * p.columns // p.row_macs for p in products) * weight_j
        parts[f"{name}_activations"] = np.sum([_passes(p, n_pe) for p in products], axis=0) * activation_j
    return parts


def estimate(workload: Workload, settings: Settings, technology: Technology) -> Cost:
    """Cost of one time step on the array."""
    n_pe = settings.n_pe.astype(np.float64)
    memories = _memories(workload, n_pe)
    bits, accumulator = workload.activation_bits, accumulator_bits(workload)
    weight_bits = max(product.word_length for product in workload.products)
    fabric = lane_fabric(n_pe, accumulator, bits, 1, n_pe * weight_bits)
    mask, facts = network_faults(workload, "dense", STRUCTURES)
    energy_j = _kernel_energy(workload, n_pe, memories, technology.operations)
    bill = Bill(
        cycles=_cycles(workload, n_pe),
        energy_j=energy_j | step_energy(workload, memories, technology.operations),
        fabric=fabric | {"bram18": {name: memory.bram18 for name, memory in memories.items()}},
        area_mm2=lane_area(n_pe, weight_bits, bits, accumulator) | memory_area(memories),
        infeasible=np.full(len(n_pe), int(mask), np.int64),
        facts=facts,
        unproven=("the dense array has no RTL; cycles are ideal, its lanes are priced as those of serial_core",),
    )
    return price(bill, workload, settings, technology)


DENSE = AcceleratorKind(
    summary="the baseline: an ideal array of multiply-accumulate lanes for dense kernels",
    structures=STRUCTURES,
    estimate=estimate,
)
