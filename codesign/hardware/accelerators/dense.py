"""The baseline: P multiply-accumulate lanes, one output row each, dense kernels.

    cycles = B * (sum over products ceil(gates * H / P) * cols + sum over layers ceil(3 H / P)) + fill + wait

B streams take turns on the lanes and share every weight that is read. Where the kernels lie outside the
chip, all of them come in once for the B streams while the lanes work, and the lanes wait for what takes
longer. The lanes also do the element-wise multiplications. An idealised array: no publication or RTL of
ours stands behind it. Its lanes are taken to cost what a lane of the serial core costs.
"""

import numpy as np

from codesign.hardware.accelerators.kind import AcceleratorKind, Bill, Settings, network_faults, price
from codesign.hardware.accelerators.lanes import (
    accumulator_bits,
    lane_area,
    lane_fabric,
    step_energy,
    step_memories,
)
from codesign.hardware.cost import Array, Cost, Parts, total
from codesign.hardware.memory import Memory
from codesign.hardware.technology import Operations, Technology
from codesign.hardware.workload import Product, Workload

STRUCTURES = ("dense",)
FILL = 16
"""Cycles to fill and empty the pipeline, once a layer and once for the head; an assumption."""


def _kernels(workload: Workload) -> dict[str, list[Product]]:
    projections = [layer.projection for layer in workload.layers if layer.projection is not None]
    return workload.gate_kernels | ({"projection": projections} if projections else {})


def _chunks(product: Product, n_pe: Array) -> Array:
    """Chunks of P rows; the rows of all gates share chunks."""
    return np.asarray(np.ceil(product.gates * product.padded_rows / n_pe), np.float64)


def _passes(product: Product, n_pe: Array) -> Array:
    """Cycles in which a column meets a chunk."""
    return _chunks(product, n_pe) * product.columns


def _cycles(workload: Workload, settings: Settings, n_pe: Array) -> Parts:
    kernels, batch = _kernels(workload).items(), settings.batch.astype(np.float64)
    parts = {name: batch * np.sum([_passes(p, n_pe) for p in products], axis=0) for name, products in kernels}
    element_wise = [np.ceil(layer.multiplications / n_pe) for layer in workload.layers]
    bits = total({name: _read_bits(products, batch) for name, products in kernels})
    wait = np.maximum(0.0, settings.dram_cycles(bits) - total(parts))
    return parts | {
        "element_wise": batch * np.sum(element_wise, axis=0),
        "head": batch * _passes(workload.head, n_pe),
        "fill": np.full_like(n_pe, FILL * (len(workload.layers) + 1)),
        "dram_wait": wait,
    }


def _read_bits(products: list[Product], batch: Array) -> Array:
    """Bits of the weights that a step of all streams needs; each stream's token has a column of its own."""
    columns = [np.minimum(batch, p.row_macs) if p.one_hot else np.full_like(batch, p.columns) for p in products]
    read = [p.n_words / p.row_macs * n * p.word_length for p, n in zip(products, columns, strict=True)]
    return np.asarray(np.sum(read, axis=0), np.float64)


def _memories(workload: Workload, settings: Settings, n_pe: Array) -> dict[str, Memory]:
    memories = {}
    for name, products in _kernels(workload).items():
        depth = np.sum([_chunks(p, n_pe) * p.row_macs for p in products], axis=0)
        memories[name] = Memory(n_pe * products[0].word_length, np.where(settings.off_chip, 0.0, depth))
    x = workload.layers[0].input_kernel
    n_activations = (0 if x.one_hot else x.cols) + 2 * workload.hidden * len(workload.layers)
    memories["activations"] = Memory(
        workload.activation_bits * np.ones_like(n_pe), (n_activations * settings.batch).astype(np.float64)
    )
    return memories | step_memories(workload, n_pe, settings.batch.astype(np.float64))


def _kernel_energy(
    workload: Workload, settings: Settings, n_pe: Array, memories: dict[str, Memory], operations: Operations
) -> Parts:
    """Each weight that a step needs is read once for all streams, each activation once a pass."""
    bits, accumulator = workload.activation_bits, accumulator_bits(workload)
    activation_j = bits * operations.read_j(memories["activations"])
    parts: Parts = {}
    for name, products in _kernels(workload).items():
        mac_j = operations.multiply_j(products[0].word_length, bits) + operations.add_j(accumulator)
        read_bits = _read_bits(products, settings.batch.astype(np.float64))
        on_chip = np.where(settings.off_chip, 0.0, read_bits * operations.read_j(memories[name]))
        parts[f"{name}_macs"] = np.full_like(n_pe, sum(p.macs for p in products) * mac_j)
        parts[f"{name}_weights"] = on_chip / settings.batch
        parts[f"{name}_dram"] = settings.dram_j(read_bits) / settings.batch
        parts[f"{name}_activations"] = np.sum([_passes(p, n_pe) for p in products], axis=0) * activation_j
    return parts


def estimate(workload: Workload, settings: Settings, technology: Technology) -> Cost:
    """Cost of one time step on the array."""
    n_pe, operations = settings.n_pe.astype(np.float64), technology.operations
    memories = _memories(workload, settings, n_pe)
    bits, accumulator = workload.activation_bits, accumulator_bits(workload)
    weight_bits = max(product.word_length for product in workload.products)
    mask, facts = network_faults(workload, "dense", STRUCTURES)
    energy_j = _kernel_energy(workload, settings, n_pe, memories, operations)
    energy_j |= step_energy(workload, memories, operations)
    bill = Bill(
        cycles=_cycles(workload, settings, n_pe),
        energy_j=energy_j | {"head_weights": energy_j["head_weights"] / settings.batch},
        fabric=lane_fabric(n_pe, accumulator, bits, 1, n_pe * weight_bits),
        area_mm2=lane_area(n_pe, weight_bits, bits, accumulator, operations),
        memories=memories,
        infeasible=np.full(len(n_pe), int(mask), np.int64),
        streams=settings.batch.astype(np.float64),
        facts=facts,
        unproven=("the dense array has no RTL; cycles are ideal, its lanes are priced as those of serial_core",),
    )
    return price(bill, workload, settings, technology)


DENSE = AcceleratorKind(
    summary="the baseline: an ideal array of multiply-accumulate lanes for dense kernels",
    structures=STRUCTURES,
    estimate=estimate,
)
